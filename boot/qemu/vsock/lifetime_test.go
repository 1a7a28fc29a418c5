package vsock

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTimeouts ends what is too slow.
func TestTimeouts(t *testing.T) {
	const short = 300 * time.Millisecond
	t.Run("handshake", func(t *testing.T) {
		f := boot(t, Options{HandshakeTimeout: short})
		f.closed(f.dial("CONNECT"))
	})
	t.Run("connect", func(t *testing.T) {
		f := boot(t, Options{ConnectTimeout: short})
		c := f.dial("CONNECT 5\n")
		f.expect(opRequest)
		f.expect(opReset)
		f.closed(c)
	})
	t.Run("stall", func(t *testing.T) {
		f := boot(t, Options{StallTimeout: short})
		c, host := f.link(5, bufferBytes)
		idle, _ := f.link(6, bufferBytes)
		for range bufferBytes / maxData {
			f.send(packet(opRW, 5, host), make([]byte, maxData))
		}
		for h, _ := f.expectAny(); h.op != opReset; h, _ = f.expectAny() {
			continue
		}
		c.Close()
		idle.Write([]byte("idle connections live"))
		f.expect(opRW)
	})
	t.Run("linger", func(t *testing.T) {
		f := boot(t, Options{LingerTimeout: short})
		c, _ := f.link(5, 0) // no credit at all
		c.Write([]byte("never read"))
		c.Close()
		for h, _ := f.expectAny(); h.op != opReset; h, _ = f.expectAny() {
			continue
		}
		f.until("the connection stays", func(s Stats) bool { return s.Open == 0 && s.TimedOut == 1 })
	})
}

// TestPause stops the rings as QEMU does when the VM is paused, and when it is
// reset.
func TestPause(t *testing.T) {
	f := boot(t, Options{ConnectTimeout: 2 * time.Second})
	c, host := f.link(5, bufferBytes)
	rx, tx := f.stopRings()
	c.Write([]byte("while it sleeps"))
	other := f.dial("CONNECT 6\n")
	time.Sleep(3 * time.Second) // the guest's clock stands still
	f.startRings(rx, tx)
	seen := map[uint16]string{}
	for len(seen) < 2 {
		h, p := f.expectAny()
		seen[h.op] = string(p)
	}
	if p, ok := seen[opRequest]; !ok || p != "" || seen[opRW] != "while it sleeps" {
		t.Errorf("%v", seen)
	}
	f.send(packet(opRW, 5, host), []byte("awake"))
	f.hear(c, "awake")
	f.stopRings()
	f.startRings(0, 0)
	f.closed(c)
	f.closed(other)
	f.send(packet(opRW, 5, host), nil)
	f.expect(opReset)
	f.link(5, 1)
}

// TestNewMemory moves the guest's memory in the front end while the rings run.
func TestNewMemory(t *testing.T) {
	f := boot(t, Options{})
	c, host := f.link(5, bufferBytes)
	for range 3 {
		f.acked(reqSetMemTable, table(), f.memfd, f.memfd)
		f.send(packet(opRW, 5, host), []byte("moved"))
		f.hear(c, "moved")
		c.Write([]byte("x"))
		f.expect(opRW)
	}
	if n := countMaps(t, "/memfd:guest"); n != 3 { // ours and the device's two
		t.Errorf("%d mappings of guest memory", n)
	}
}

// TestEndOfQEMU wants Serve to end without an error, and to leave nothing.
func TestEndOfQEMU(t *testing.T) {
	before := descriptors(t)
	f := boot(t, Options{})
	c, _ := f.link(5, bufferBytes)
	closeFD(&f.fd)
	if err := <-f.served; err != nil {
		t.Error(err)
	}
	f.closed(c)
	c.Close()
	if _, err := net.Dial("unix", f.path); !errors.Is(err, unix.ENOENT) {
		t.Errorf("the socket: %v", err)
	}
	f.end()
	if after := descriptors(t); len(after) > len(before) {
		t.Errorf("descriptors before: %q, after: %q", before, after)
	}
	if n := countMaps(t, "/memfd:guest"); n != 0 {
		t.Errorf("%d mappings of guest memory stay", n)
	}
}
