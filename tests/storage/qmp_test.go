package storage

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// monitor is a second QMP monitor of a run's QEMU (QEMU docs/interop/qmp-spec): what
// happens through it happens behind the backs of the launcher and of Keel.
type monitor struct {
	path string // of its socket
	conn net.Conn
	in   *json.Decoder
}

// newMonitor returns a monitor and the flags of keel run that make QEMU have it.
func newMonitor(t *testing.T) (*monitor, []string) {
	t.Helper()
	// Not t.TempDir: the path of a socket is short (unix(7)).
	dir, err := os.MkdirTemp("", "keel-qmp-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &monitor{path: filepath.Join(dir, "socket")}
	return m, []string{"--qemu-arg", "-qmp", "--qemu-arg", "unix:" + m.path + ",server=on,wait=off"}
}

// dial connects to a QEMU that runs.
func (m *monitor) dial(t *testing.T) {
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
	m.do(t, "qmp_capabilities", nil, nil)
}

// do gives QEMU a command and decodes its answer into result, unless that is nil.
func (m *monitor) do(t *testing.T, command string, arguments map[string]any, result any) {
	t.Helper()
	message := map[string]any{"execute": command}
	if arguments != nil {
		message["arguments"] = arguments
	}
	if err := m.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(m.conn).Encode(message); err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	for {
		var r struct {
			Event  string
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := m.in.Decode(&r); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		switch {
		case r.Event != "":
			continue
		case r.Error != nil:
			t.Fatalf("%s: %s", command, r.Error.Desc)
		case result != nil:
			if err := json.Unmarshal(r.Return, result); err != nil {
				t.Fatalf("%s: %v", command, err)
			}
		}
		return
	}
}
