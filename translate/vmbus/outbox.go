package vmbus

import (
	"errors"
	"sync"
	"time"

	"keel/vtl/hv"
)

// outbox holds the messages that the guest has not room for. Messages reach the
// guest in order. Where the first attempt fails a goroutine tries again, with
// growing pauses or when the guest was seen to end a message; it ends with the
// last message.
type outbox struct {
	to   Hypervisor
	n    *counters
	mu   sync.Mutex
	list []outMessage
	busy bool // the pump runs
	shut bool
	kick chan struct{}
}

// outMessage is one message under way.
type outMessage struct {
	vp, sint int
	length   int
	data     [MessageSize]byte
}

// Pauses of the pump between attempts, and how long a message may wait for a guest
// that has its SynIC switched off.
const (
	firstPause = 200 * time.Microsecond
	lastPause  = 20 * time.Millisecond
	offTries   = 500
)

// send delivers a message, or keeps it. It returns false when limit messages wait
// already.
func (o *outbox) send(vp, sint int, m []byte, limit int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.shut {
		return false
	}
	if !o.busy && len(o.list) == 0 {
		if o.to.PostMessage(vp, sint, messageKind, m) == nil {
			o.n.replies.Add(1)
			return true
		}
		o.n.retries.Add(1)
	}
	if len(o.list) >= limit {
		o.n.undelivered.Add(1)
		return false
	}
	out := outMessage{vp: vp, sint: sint, length: len(m)}
	copy(out.data[:], m)
	o.list = append(o.list, out)
	if !o.busy {
		o.busy = true
		go o.pump()
	}
	return true
}

// waiting returns how many messages the guest has yet to take.
func (o *outbox) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.list)
}

// pump delivers what waits.
func (o *outbox) pump() {
	pause, tries := firstPause, 0
	for {
		sent, err, more := o.attempt()
		switch {
		case !more:
			return
		case sent:
			pause, tries = firstPause, 0
			continue
		}
		tries++
		if errors.Is(err, hv.ErrInvalid) || errors.Is(err, hv.ErrOff) && tries >= offTries {
			o.drop()
			tries = 0
			continue
		}
		select {
		case <-o.kick:
		case <-time.After(pause):
			pause = min(2*pause, lastPause)
		}
	}
}

// attempt tries the oldest message. more is false when the pump has ended.
func (o *outbox) attempt() (sent bool, err error, more bool) { //nolint:revive // the error is the reason for a retry, not a failure of attempt
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.list) == 0 || o.shut {
		o.busy, o.list = false, nil
		return false, nil, false
	}
	m := &o.list[0]
	if err := o.to.PostMessage(m.vp, m.sint, messageKind, m.data[:m.length]); err != nil {
		o.n.retries.Add(1)
		return false, err, true
	}
	o.n.replies.Add(1)
	o.list = o.list[1:]
	return true, nil, true
}

// drop gives the oldest message up.
func (o *outbox) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.list) > 0 {
		o.list = o.list[1:]
		o.n.undelivered.Add(1)
	}
}

// flush forgets what waits: the guest that it was for has gone.
func (o *outbox) flush() {
	o.mu.Lock()
	o.list = nil
	o.mu.Unlock()
}

// close ends the pump.
func (o *outbox) close() {
	o.mu.Lock()
	o.shut = true
	o.mu.Unlock()
	o.wake()
}

// wake makes the pump try at once.
func (o *outbox) wake() {
	select {
	case o.kick <- struct{}{}:
	default:
	}
}
