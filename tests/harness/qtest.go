package harness

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Qtest is the door that QEMU has for tests of its devices (QEMU docs/devel/qtest): through
// it a host writes where a device would, and moves any wire of the VM.
type Qtest struct {
	path string // of its socket
	conn net.Conn
	in   *bufio.Reader
}

// NewQtest returns a door and the flags of keel run that make QEMU have it.
func NewQtest(t *testing.T) (*Qtest, []string) {
	t.Helper()
	// Not t.TempDir: the path of a socket is short (unix(7)).
	dir, err := os.MkdirTemp("", "keel-qtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	q := &Qtest{path: filepath.Join(dir, "socket")}
	var flags []string
	for _, a := range []string{"-qtest", "unix:" + q.path + ",server=on,wait=off", "-qtest-log", "none"} {
		flags = append(flags, "--qemu-arg", a)
	}
	return q, flags
}

// Dial connects to a QEMU that runs.
func (q *Qtest) Dial(t *testing.T) {
	t.Helper()
	var err error
	if q.conn, err = net.Dial("unix", q.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.conn.Close() })
	q.in = bufio.NewReader(q.conn)
}

// Write32 writes to the VM's memory or registers. Errors are those of do.
func (q *Qtest) Write32(address uint64, v uint32) error {
	return q.do(fmt.Sprintf("writel %#x %#x", address, v))
}

// SetLine drives an input of a device, which its path in QEMU's tree of objects names.
// Errors are those of do.
func (q *Qtest) SetLine(device string, n int, high bool) error {
	level := 0
	if high {
		level = 1
	}
	return q.do(fmt.Sprintf("set_irq_in %s unnamed-gpio-in %d %d", device, n, level))
}

// do gives QEMU a command. Its error wraps ErrQEMU where QEMU refuses it; any other says
// that the VM is gone.
func (q *Qtest) do(command string) error {
	if err := q.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	_, err := fmt.Fprintln(q.conn, command)
	line := ""
	if err == nil {
		line, err = q.in.ReadString('\n')
	}
	switch {
	case err != nil:
		return errors.Join(errors.New(command), err)
	case !strings.HasPrefix(line, "OK"):
		return fmt.Errorf("%w %s: %s", ErrQEMU, command, line)
	}
	return nil
}
