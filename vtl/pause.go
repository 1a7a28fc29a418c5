package vtl

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"keel/hcl"
)

// A VP that is held stands at the top of its loop, between two instructions, until it is
// released. It costs a running VP one look at a flag for each exit. The guest's clocks go
// on, and so do requests to its disks that are under way.

// ErrRunning says that something was asked of a VP that is not held.
var ErrRunning = errors.New("the guest is not paused")

// hold stops a VP, and gives it orders meanwhile.
type hold struct {
	on     atomic.Bool
	orders chan func() // taken by the VP that stands

	mu   sync.Mutex
	over chan struct{} // closed when the hold ends or has to be looked at again; nil without
}

// set makes the VP stand as soon as it looks.
func (h *hold) set() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.on.Load() {
		h.over = make(chan struct{})
		h.on.Store(true)
	}
}

// release lets the VP go on.
func (h *hold) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.on.Load() {
		h.on.Store(false)
		close(h.over)
		h.over = nil
	}
}

// interrupt wakes the VP, and whoever waits for it, without an end of the hold.
func (h *hold) interrupt() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.on.Load() {
		close(h.over)
		h.over = make(chan struct{})
	}
}

// current returns what tells of the end of the hold, nil where there is none.
func (h *hold) current() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.over
}

// stand waits while the VP is held and the guest has not ended, and does what it is told.
func (v *vp) stand() {
	for {
		// The end is looked at after the channel: Stop sets the end first, so that
		// either is seen.
		over := v.hold.current()
		if over == nil || v.guest.end.Load() != nil {
			return
		}
		select {
		case order := <-v.hold.orders:
			order()
		case <-over:
		}
	}
}

// Pause holds all VPs and returns once each stands between two instructions. They stay
// held until Resume, also when the guest resets: then its first instruction waits. When
// ctx ends before they stand they are held nevertheless. Any goroutine but those of the
// VPs may call it.
func (g *Guest) Pause(ctx context.Context) error {
	g.hold()
	return g.OnVPs(ctx, func(int, hcl.VP) error { return nil })
}

// hold makes all VPs stand as soon as they look, and makes them look.
func (g *Guest) hold() {
	for i, v := range g.vps {
		v.hold.set()
		g.Kick(i)
	}
}

// Resume lets all VPs go on. Any goroutine may call it.
func (g *Guest) Resume() {
	for _, v := range g.vps {
		v.hold.release()
	}
}

// Paused tells whether all VPs are held. Any goroutine may call it.
func (g *Guest) Paused() bool {
	for _, v := range g.vps {
		if !v.hold.on.Load() {
			return false
		}
	}
	return true
}

// OnVP runs f on the thread of a VP that is held, once it stands, and returns the error
// of f. What f does to the VP's registers counts when the VP goes on. While the guest is
// between two starts OnVP waits for the next one. Errors: ErrRunning, that of ctx, in
// which cases f has not been called.
//
// Preconditions: f waits for nobody.
func (g *Guest) OnVP(ctx context.Context, i int, f func(vp hcl.VP) error) error {
	return g.order(ctx, i, func(v *vp) error { return f(v.backend) })
}

// order is OnVP for all of a VP.
func (g *Guest) order(ctx context.Context, i int, f func(v *vp) error) error {
	v := g.vps[i]
	done := make(chan error, 1)
	order := func() { done <- f(v) }
	for {
		over := v.hold.current()
		if over == nil {
			return ErrRunning
		}
		select {
		case v.hold.orders <- order:
			return <-done
		case <-over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// OnVPs runs f on the thread of each VP, one after the other, and stops at the first
// error.
func (g *Guest) OnVPs(ctx context.Context, f func(i int, vp hcl.VP) error) error {
	for i := range g.vps {
		if err := g.OnVP(ctx, i, func(vp hcl.VP) error { return f(i, vp) }); err != nil {
			return err
		}
	}
	return nil
}

// unfinished tells whether the VP's registers after an exit are those in the middle of an
// instruction, which the next run finishes.
func unfinished(k hcl.ExitKind) bool {
	switch k {
	case hcl.ExitPIO, hcl.ExitMMIO, hcl.ExitMSRRead, hcl.ExitMSRWrite:
		return true
	default:
		return false
	}
}
