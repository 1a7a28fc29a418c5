package vsock

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAllocations wants packets to cost no memory, in either direction.
func TestAllocations(t *testing.T) {
	f := newFrontend(t, Options{})
	f.manual = true
	f.setUp()
	client, host := f.manualLink(5)
	out, big := make([]byte, 2000), make([]byte, maxData)
	h := packet(opRW, 5, host)
	h.bufAlloc = 1 << 30
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"ping-pong", func() {
			f.send(h, out)
			unix.Read(client, out)
			unix.Write(client, out)
			f.device.more = true
			f.device.turn()
			f.discard()
		}},
		{"slow client", func() { // through the backlog and back
			for range 6 {
				f.send(h, big)
			}
			f.device.more = true
			f.device.turn()
			for {
				if n, _ := unix.Read(client, out); n <= 0 {
					break
				}
				f.device.more = true
				f.device.turn()
			}
			f.discard()
		}},
	} {
		for range 50 { // buffers, tables
			c.run()
		}
		if n := testing.AllocsPerRun(200, c.run); n > 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
	if len(f.device.spare) == 0 {
		t.Error("nobody was slow")
	}
	if s := f.device.Stats(); s.BadPackets+s.Broken != 0 || s.BytesToGuest < 2000*200 {
		t.Errorf("%+v", s)
	}
}

// manualLink is link with a plain descriptor for the client, whose buffer is small.
func (f *frontend) manualLink(port uint32) (int, uint32) {
	f.tb.Helper()
	fd, err := dial(f.path)
	f.check(err)
	f.tb.Cleanup(func() { unix.Close(fd) })
	unix.Write(fd, []byte("CONNECT "+itoa(port)+"\n"))
	f.step()
	h, _ := f.expect(opRequest)
	answer := packet(opResponse, port, h.srcPort)
	answer.bufAlloc = 1 << 30
	f.send(answer, nil)
	b := make([]byte, 64)
	if n, err := unix.Read(fd, b); err != nil || string(b[:n]) != "OK "+itoa(h.srcPort)+"\n" {
		f.tb.Fatalf("%q, %v", b[:max(n, 0)], err)
	}
	return fd, h.srcPort
}

// discard gives the guest's received buffers back without a look.
func (f *frontend) discard() {
	r := &f.rings[queueRx]
	for head, _, ok := f.reap(r); ok; head, _, ok = f.reap(r) {
		f.offer(r, head)
	}
	f.kickNow(r)
}

// BenchmarkRoundTrip is a byte to the guest and back, through Serve, the real
// sockets, rings and events, without a VM.
func BenchmarkRoundTrip(b *testing.B) {
	f := boot(b, Options{})
	c, host := f.link(5, 1<<30)
	c.SetDeadline(time.Time{})
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		h := packet(opRW, 5, host)
		h.bufAlloc = 1 << 30
		for n := uint32(0); ; {
			p, payload, ok := f.poll(patience)
			select {
			case <-stop:
				return
			default:
			}
			if ok && p.op == opRW {
				n += p.length
				h.fwdCnt = n
				f.send(h, payload)
			}
		}
	}()
	var one [1]byte
	for b.Loop() {
		c.Write(one[:])
		if _, err := io.ReadFull(c, one[:]); err != nil {
			b.Fatal(err)
		}
	}
	close(stop)
	c.Close()
	<-done
}

// BenchmarkToGuest and BenchmarkFromGuest move 64 KiB at a time.
func BenchmarkToGuest(b *testing.B) {
	f := boot(b, Options{})
	c, host := f.link(5, 1<<20)
	c.SetDeadline(time.Time{})
	go func() {
		chunk := make([]byte, 64<<10)
		for {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	}()
	b.SetBytes(64 << 10)
	u := packet(opCreditUpdate, 5, host)
	u.bufAlloc = 1 << 20
	told := uint32(0)
	for b.Loop() {
		for n := uint32(0); n < 64<<10; {
			p, _, ok := f.poll(patience)
			if !ok {
				b.Fatal("nothing comes")
			}
			n += p.length
			u.fwdCnt += p.length
			if u.fwdCnt-told > 256<<10 {
				told = u.fwdCnt
				f.send(u, nil)
			}
		}
	}
	c.Close()
}

func BenchmarkFromGuest(b *testing.B) {
	f := boot(b, Options{})
	c, host := f.link(5, 1<<20)
	c.SetDeadline(time.Time{})
	go io.Copy(io.Discard, onlyReader{c})
	b.SetBytes(64 << 10)
	chunk := make([]byte, 64<<10)
	sent, fwd := uint32(0), uint32(0)
	for b.Loop() {
		for sent-fwd+uint32(len(chunk)) > bufferBytes {
			p, _, ok := f.poll(patience)
			if !ok {
				b.Fatal("no credit comes")
			}
			fwd = p.fwdCnt
		}
		f.send(packet(opRW, 5, host), chunk)
		sent += uint32(len(chunk))
	}
}

// onlyReader hides what would make io.Copy splice.
type onlyReader struct{ c net.Conn }

func (o onlyReader) Read(p []byte) (int, error) { return o.c.Read(p) }
