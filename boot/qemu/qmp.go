package qemu

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

// qmpPatience bounds a write to QEMU's monitor, which a hung QEMU never reads.
const qmpPatience = time.Second

// monitor talks QMP (QEMU docs/interop/qmp-spec) to QEMU: it hears why the
// VM ended and asks QEMU to quit.
type monitor struct {
	conn interface {
		io.ReadWriter
		SetWriteDeadline(time.Time) error
	}

	mu     sync.Mutex
	reason string // of the last SHUTDOWN event
}

// serve reads QEMU's events until the monitor is closed.
func (m *monitor) serve() {
	m.say(`{"execute":"qmp_capabilities"}`)
	eachLine(m.conn, func(line []byte, _ bool) {
		var e struct {
			Event string
			Data  struct{ Reason string }
		}
		if json.Unmarshal(line, &e) == nil && e.Event == "SHUTDOWN" {
			m.mu.Lock()
			m.reason = oneLine(e.Data.Reason)
			m.mu.Unlock()
		}
	})
}

// quit asks QEMU to end.
func (m *monitor) quit() { m.say(`{"execute":"quit"}`) }

// shutdownReason returns QEMU's word for why the VM ended
// (qapi/run-state.json, ShutdownCause), or nothing.
func (m *monitor) shutdownReason() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reason
}

// say sends one command. A monitor that does not listen is no error: its
// QEMU is gone or about to be killed.
func (m *monitor) say(command string) {
	if m.conn.SetWriteDeadline(time.Now().Add(qmpPatience)) == nil {
		_, _ = io.WriteString(m.conn, command+"\n")
	}
}
