// Package vmbustest is a guest's driver of VMBus, for tests: it posts messages,
// gives pages away, and reads and writes rings in the order and with the rules of
// Linux (drivers/hv). It fails its test where the server breaks one of them.
package vmbustest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"keel/translate/vmbus"
)

// patience is how long the driver waits for what must come.
const patience = 10 * time.Second

// Errors of the SynIC.
var (
	errAbsurd = errors.New("absurd message or interrupt")
	errBusy   = errors.New("no room for the message")
)

// SynIC stands in for the hypervisor: it keeps messages and counts interrupts.
type SynIC struct {
	mu       sync.Mutex
	messages [][]byte
	room     int // messages that fit, negative for any number
	failure  error
	flags    map[int]int
	lastVP   int
	posted   chan struct{}
}

func newSynIC() *SynIC {
	return &SynIC{room: -1, flags: map[int]int{}, posted: make(chan struct{}, 1)}
}

// PostMessage keeps a message.
func (h *SynIC) PostMessage(_, sint int, kind uint32, payload []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.failure != nil:
		return h.failure
	case sint != vmbus.MessageSINT || kind != 1 || len(payload) > vmbus.MessageSize:
		return errAbsurd
	case h.room >= 0 && len(h.messages) >= h.room:
		return errBusy
	}
	h.messages = append(h.messages, append([]byte(nil), payload...))
	select {
	case h.posted <- struct{}{}:
	default:
	}
	return nil
}

// SignalEvent counts an interrupt.
func (h *SynIC) SignalEvent(vp, sint, flag int) error {
	if sint != vmbus.MessageSINT {
		return errAbsurd
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.flags[flag]++
	h.lastVP = vp
	return nil
}

// SetRoom sets how many messages fit, negative for any number.
func (h *SynIC) SetRoom(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.room = n
}

// Fail makes PostMessage fail.
func (h *SynIC) Fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failure = err
}

// Interrupts returns how often an event flag was set.
func (h *SynIC) Interrupts(flag int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.flags[flag]
}

// LastVP returns the VP of the last interrupt.
func (h *SynIC) LastVP() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lastVP
}

// Waiting returns how many messages have not been taken.
func (h *SynIC) Waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.messages)
}

// Forget drops the messages that have not been taken.
func (h *SynIC) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages = nil
}

// Take removes the oldest message, waiting for it a little.
func (h *SynIC) Take(tb testing.TB) []byte {
	tb.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		h.mu.Lock()
		if len(h.messages) > 0 {
			m := h.messages[0]
			h.messages = h.messages[1:]
			h.mu.Unlock()
			return m
		}
		h.mu.Unlock()
		select {
		case <-h.posted:
		case <-time.After(time.Millisecond):
		}
	}
	tb.Fatal("no message arrived")
	return nil
}

// None fails the test when there is a message.
func (h *SynIC) None(tb testing.TB) {
	tb.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.messages) != 0 {
		tb.Errorf("%d messages that nobody expected, the first is % x", len(h.messages), h.messages[0][:min(12, len(h.messages[0]))])
	}
}
