package harness

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Debugger is a host that stops its VM and changes what is in it, through QEMU's GDB stub
// (GDB manual, appendix "GDB Remote Serial Protocol"; QEMU docs/system/gdb). Addresses are
// the processor's: guest physical ones for as long as they are mapped one to one.
type Debugger struct {
	path string // of its socket
	conn net.Conn
	in   *bufio.Reader
}

// NewDebugger returns a debugger and the arguments for a QEMU that waits for it before the
// VM's first instruction.
func NewDebugger(t *testing.T) (*Debugger, []string) {
	t.Helper()
	// Not t.TempDir: the path of a socket is short (unix(7)).
	dir, err := os.MkdirTemp("", "keel-gdb-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &Debugger{path: filepath.Join(dir, "socket")}
	return d, []string{"-S", "-gdb", "unix:" + d.path + ",server=on,wait=off"}
}

// Dial connects, once QEMU runs.
func (d *Debugger) Dial(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("unix", d.path)
		if err == nil {
			d.conn, d.in = conn, bufio.NewReader(conn)
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { d.conn.Close() })
	if r := d.ask(t, "?"); !stopped(r) {
		t.Fatalf("the VM does not stop: %q", r)
	}
}

// RunTo lets the VM run until the processor is about to execute the instruction at one of
// the addresses, and returns which. It must not be at one of them.
func (d *Debugger) RunTo(t *testing.T, addresses ...uint64) uint64 {
	t.Helper()
	for _, a := range addresses {
		d.do(t, fmt.Sprintf("Z1,%x,1", a))
	}
	if r := d.ask(t, "c"); !stopped(r) {
		t.Fatalf("the VM runs on: %q", r)
	}
	for _, a := range addresses {
		d.do(t, fmt.Sprintf("z1,%x,1", a))
	}
	return d.Registers(t).RIP()
}

// stopped tells whether an answer says that the VM stands still.
func stopped(answer string) bool {
	return strings.HasPrefix(answer, "T") || strings.HasPrefix(answer, "S")
}

// Registers are those of the processor, as the stub lists them in 64-bit mode.
type Registers []byte

// RIP is the seventeenth of them.
func (r Registers) RIP() uint64 { return binary.LittleEndian.Uint64(r[16*8:]) }

// Registers returns those of the processor.
func (d *Debugger) Registers(t *testing.T) Registers {
	t.Helper()
	b, err := hex.DecodeString(d.ask(t, "g"))
	if err != nil || len(b) < 17*8 {
		t.Fatalf("%d bytes of registers, %v", len(b), err)
	}
	return b
}

// SetRegisters puts back what Registers has returned.
func (d *Debugger) SetRegisters(t *testing.T, r Registers) {
	t.Helper()
	d.do(t, "G"+hex.EncodeToString(r))
}

// piece is how much memory goes into a packet, in bytes.
const piece = 1024

// Read returns memory.
func (d *Debugger) Read(t *testing.T, address uint64, n int) []byte {
	t.Helper()
	var out []byte
	for len(out) < n {
		want := min(n-len(out), piece)
		b, err := hex.DecodeString(d.ask(t, fmt.Sprintf("m%x,%x", address+uint64(len(out)), want)))
		if err != nil || len(b) != want {
			t.Fatalf("%d of %d bytes at %#x, %v", len(b), want, address, err)
		}
		out = append(out, b...)
	}
	return out
}

// Write changes memory.
func (d *Debugger) Write(t *testing.T, address uint64, b []byte) {
	t.Helper()
	for len(b) > 0 {
		n := min(len(b), piece)
		d.do(t, fmt.Sprintf("M%x,%x:%s", address, n, hex.EncodeToString(b[:n])))
		address, b = address+uint64(n), b[n:]
	}
}

// Detach lets the VM run on for good.
func (d *Debugger) Detach(t *testing.T) {
	t.Helper()
	d.do(t, "D")
}

// do wants a request to be done.
func (d *Debugger) do(t *testing.T, request string) {
	t.Helper()
	if r := d.ask(t, request); r != "OK" {
		t.Fatalf("%.40s: %q", request, r)
	}
}

// ask sends a packet and returns the answer.
func (d *Debugger) ask(t *testing.T, request string) string {
	t.Helper()
	packet := fmt.Sprintf("$%s#%02x", request, sum(request))
	_, err := d.conn.Write([]byte(packet))
	if err = errors.Join(err, d.conn.SetReadDeadline(time.Now().Add(2*time.Minute))); err != nil {
		t.Fatal(err)
	}
	before, err := d.in.ReadString('$') // with the acknowledgement
	if err != nil || before != "+$" {
		t.Fatalf("%.40s: %q, %v", request, before, err)
	}
	answer, err := d.in.ReadString('#')
	digits := make([]byte, 2)
	for i := range digits {
		if err == nil {
			digits[i], err = d.in.ReadByte()
		}
	}
	answer = strings.TrimSuffix(answer, "#")
	if n, wrong := strconv.ParseUint(string(digits), 16, 8); err != nil || wrong != nil || byte(n) != sum(answer) {
		t.Fatalf("%.40s: %.40q, %q, %v", request, answer, digits, err)
	}
	if _, err := d.conn.Write([]byte("+")); err != nil && request != "D" {
		t.Fatal(err)
	}
	return answer
}

// sum is the checksum of a packet.
func sum(s string) (n byte) {
	for i := range len(s) {
		n += s[i]
	}
	return n
}
