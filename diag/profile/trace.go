package profile

import (
	"context"
	"fmt"
	"io"
	"runtime/trace"
	"sync"
	"time"
)

// Bounds of a trace. What the reader has not taken yet is in the runtime's memory, which
// has no bound of its own.
const (
	maxTrace = 64 << 20    // bytes
	maxWait  = time.Second // for the reader to take a piece
)

// Trace writes an execution trace of a stretch of time. It ends early, and is complete as
// far as it goes, when it grows too long or its reader is slow: cut says why, and is empty
// otherwise. Errors: ErrTime, ErrBusy, that of ctx when it ended early, and those of w.
func Trace(ctx context.Context, d time.Duration, w io.Writer) (cut string, err error) {
	if d <= 0 || d > MaxTime {
		return "", fmt.Errorf("%w: %v, at most %v", ErrTime, d, MaxTime)
	}
	if !one.TryLock() {
		return "", ErrBusy
	}
	defer one.Unlock()
	early, end := context.WithCancel(ctx)
	defer end()
	t := &tracer{w: w, end: end}
	if err := trace.Start(t); err != nil {
		return "", fmt.Errorf("%w: %w", ErrBusy, err)
	}
	_ = pass(early, d) // that it ended early is seen below
	trace.Stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	return t.cut, t.err
}

// tracer takes a trace from the runtime.
type tracer struct {
	w   io.Writer
	end func() // ends the trace

	mu    sync.Mutex
	bytes int
	cut   string
	err   error
}

// Write passes bytes on. The runtime takes no error: those of w end the trace.
func (t *tracer) Write(b []byte) (int, error) {
	t.mu.Lock()
	failed := t.err != nil
	t.bytes += len(b)
	if t.bytes > maxTrace {
		t.shorten("it is too long")
	}
	t.mu.Unlock()
	if failed {
		return len(b), nil
	}
	slow := time.AfterFunc(maxWait, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.shorten("its reader is slow")
	})
	_, err := t.w.Write(b)
	slow.Stop()
	if err != nil {
		t.mu.Lock()
		t.err = err
		t.mu.Unlock()
		t.end()
	}
	return len(b), nil
}

// shorten ends the trace early.
//
// Preconditions: t.mu is held.
func (t *tracer) shorten(why string) {
	if t.cut == "" {
		t.cut = why
	}
	t.end()
}
