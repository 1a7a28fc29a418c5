package serial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrOutput is the stage of a writer that failed beneath Run.
var ErrOutput = errors.New("serial output")

const (
	chunk = 4 << 10

	// gather is how long the first character of a burst waits for company, so
	// that a line of text costs the host one write and not eighty. It is far
	// below what a person notices.
	gather = 5 * time.Millisecond
	// A guest that fills half of the ring meanwhile is not kept waiting.
	hurryAbove = outputCapacity / 2
)

// Run connects the UART to the host: it copies output to w until ctx ends or w
// fails, and input from r (unless nil) into the receiver. The reading goroutine
// ends with ctx too, but a Read under way returns only when the owner closes r.
// At most one Run may be active. A UART that nobody runs stalls its guest's
// output once the ring is full; give it io.Discard.
func (u *UART) Run(ctx context.Context, w io.Writer, r io.Reader) error {
	if r != nil {
		go u.feedFrom(ctx, r)
	}
	buf := make([]byte, chunk)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		for n := u.takeOutput(buf); n > 0; n = u.takeOutput(buf) {
			_, err := w.Write(buf[:n])
			if err != nil {
				u.finishWrite()
				return fmt.Errorf("%w: %w", ErrOutput, err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-u.wake:
		}
		pause.Reset(gather)
		select {
		case <-u.hurry:
		case <-pause.C:
		}
	}
}

// Drain waits until the writer of Run has taken all output, at most for the
// given time, and reports whether it has.
func (u *UART) Drain(timeout time.Duration) bool {
	for deadline := time.Now().Add(timeout); ; time.Sleep(gather) {
		u.mu.Lock()
		empty := u.tx.n == 0 && !u.writing
		u.mu.Unlock()
		if empty || time.Now().After(deadline) {
			return empty
		}
	}
}

// takeOutput moves output into buf; the previous chunk is thereby written. When
// that makes room the stalled transmitter becomes empty, with its interrupt.
func (u *UART) takeOutput(buf []byte) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := u.tx.take(buf)
	u.writing = n > 0
	if u.stalled && u.tx.free() >= resumeAbove {
		u.stalled = false
		u.thrPending = true
		u.update()
	}
	return n
}

func (u *UART) finishWrite() {
	u.mu.Lock()
	u.writing = false
	u.mu.Unlock()
}

func (u *UART) feedFrom(ctx context.Context, r io.Reader) {
	buf := make([]byte, chunk)
	for ctx.Err() == nil {
		n, err := r.Read(buf)
		if !u.feed(ctx, buf[:n]) || err != nil {
			return
		}
	}
}

// Type queues as much input as there is room for, beside what comes from Run's reader, and
// returns how much that was. It never waits.
func (u *UART) Type(p []byte) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := 0
	for n < len(p) && u.pending.push(rxChar{data: p[n]}) {
		n++
	}
	u.refill()
	u.update()
	return n
}

// feed queues input, waiting for the guest while the queue is full. It reports
// false when ctx ended first.
func (u *UART) feed(ctx context.Context, p []byte) bool {
	for {
		if p = p[u.Type(p):]; len(p) == 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-u.space:
		}
	}
}
