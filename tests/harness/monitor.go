package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Monitor is a second QMP monitor of a run's QEMU (QEMU docs/interop/qmp-spec): what
// happens through it happens behind the backs of the launcher and of Keel.
type Monitor struct {
	path string // of its socket
	conn net.Conn
	in   *json.Decoder
}

// NewMonitor returns a monitor and the flags of keel run that make QEMU have it.
func NewMonitor(t *testing.T) (*Monitor, []string) {
	t.Helper()
	// Not t.TempDir: the path of a socket is short (unix(7)).
	dir, err := os.MkdirTemp("", "keel-qmp-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &Monitor{path: filepath.Join(dir, "socket")}
	return m, []string{"--qemu-arg", "-qmp", "--qemu-arg", "unix:" + m.path + ",server=on,wait=off"}
}

// Dial connects to a QEMU that runs.
func (m *Monitor) Dial(t *testing.T) {
	t.Helper()
	var err error
	if m.conn, err = net.Dial("unix", m.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.conn.Close() })
	m.in = json.NewDecoder(m.conn)
	var greeting struct{ QMP json.RawMessage }
	if err := m.in.Decode(&greeting); err != nil {
		t.Fatal(err)
	}
	m.Do(t, "qmp_capabilities", nil, nil)
}

// Do gives QEMU a command and decodes its answer into result, unless that is nil.
func (m *Monitor) Do(t *testing.T, command string, arguments map[string]any, result any) {
	t.Helper()
	if err := m.Try(command, arguments, result); err != nil {
		t.Fatal(err)
	}
}

// ErrQEMU says that QEMU refused a command.
var ErrQEMU = errors.New("QEMU refuses")

// Try is Do with an error, which wraps ErrQEMU where QEMU answers with one.
func (m *Monitor) Try(command string, arguments map[string]any, result any) error {
	message := map[string]any{"execute": command}
	if arguments != nil {
		message["arguments"] = arguments
	}
	if err := errors.Join(m.conn.SetDeadline(time.Now().Add(time.Minute)), json.NewEncoder(m.conn).Encode(message)); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	for {
		var r struct {
			Event  string
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := m.in.Decode(&r); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		switch {
		case r.Event != "":
			continue
		case r.Error != nil:
			return fmt.Errorf("%w %s: %s", ErrQEMU, command, r.Error.Desc)
		case result != nil:
			if err := json.Unmarshal(r.Return, result); err != nil {
				return fmt.Errorf("%s: %w", command, err)
			}
		}
		return nil
	}
}
