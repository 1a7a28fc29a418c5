package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// qmpPatience bounds a write to QEMU's monitor, which a hung QEMU never reads.
const qmpPatience = time.Second

// errQMP says that QEMU refused a command, or is gone.
var errQMP = errors.New("QEMU monitor")

// monitor talks QMP (QEMU docs/interop/qmp-spec) to QEMU: it hears why the
// VM ended, asks QEMU to quit, and plugs devices.
type monitor struct {
	conn interface {
		io.ReadWriter
		SetWriteDeadline(time.Time) error
	}

	mu      sync.Mutex
	reason  string // of the last SHUTDOWN event
	last    uint64 // identifier of the last command that was given one
	replies map[uint64]chan qmpReply
	unplugs map[string]chan struct{} // devices whose end somebody waits for
	ended   bool
}

// qmpReply is what QEMU answers to a command.
type qmpReply struct {
	ID     uint64
	Return json.RawMessage
	Error  *struct{ Desc string }

	Event string
	Data  struct{ Reason, Device string }
}

// serve reads QEMU's events and answers until the monitor is closed.
func (m *monitor) serve() {
	m.say(`{"execute":"qmp_capabilities"}`)
	eachLine(m.conn, func(line []byte, _ bool) {
		var r qmpReply
		if json.Unmarshal(line, &r) != nil {
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		switch {
		case r.Event == "SHUTDOWN":
			m.reason = oneLine(r.Data.Reason)
		case r.Event == "DEVICE_DELETED":
			if done, ok := m.unplugs[r.Data.Device]; ok {
				close(done)
				delete(m.unplugs, r.Data.Device)
			}
		case r.Event == "" && m.replies[r.ID] != nil:
			m.replies[r.ID] <- r
			delete(m.replies, r.ID)
		}
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	for _, c := range m.replies {
		close(c)
	}
	m.replies = nil
}

// do gives QEMU a command and waits for its answer.
func (m *monitor) do(ctx context.Context, command string, arguments map[string]any) error {
	answer := make(chan qmpReply, 1)
	m.mu.Lock()
	if m.ended {
		m.mu.Unlock()
		return fmt.Errorf("%w: QEMU is gone", errQMP)
	}
	m.last++
	id := m.last
	if m.replies == nil {
		m.replies = map[uint64]chan qmpReply{}
	}
	m.replies[id] = answer
	m.mu.Unlock()
	line, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments, "id": id})
	if err != nil {
		return fmt.Errorf("%w: %w", errQMP, err)
	}
	m.say(string(line))
	select {
	case r, ok := <-answer:
		switch {
		case !ok:
			return fmt.Errorf("%w: QEMU is gone", errQMP)
		case r.Error != nil:
			return fmt.Errorf("%w: %s: %s", errQMP, command, oneLine(r.Error.Desc))
		}
		return nil
	case <-ctx.Done():
		m.mu.Lock()
		delete(m.replies, id)
		m.mu.Unlock()
		return fmt.Errorf("%w: %s: %w", errQMP, command, context.Cause(ctx))
	}
}

// unplug takes a device away and waits until the VM has let it go.
func (m *monitor) unplug(ctx context.Context, device string) error {
	done := make(chan struct{})
	m.mu.Lock()
	if m.unplugs == nil {
		m.unplugs = map[string]chan struct{}{}
	}
	m.unplugs[device] = done
	m.mu.Unlock()
	err := m.do(ctx, "device_del", map[string]any{"id": device})
	if err == nil {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			err = fmt.Errorf("%w: the VM does not let go of %s: %w", errQMP, device, context.Cause(ctx))
		}
	}
	m.mu.Lock()
	delete(m.unplugs, device)
	m.mu.Unlock()
	return err
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
