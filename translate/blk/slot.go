package blk

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Slot is a Disk whose device can be exchanged while it is in use: requests wait
// meanwhile. It is what makes a disk that grows, or whose controller is unplugged
// and plugged in again, one disk to the guest.
type Slot struct {
	disk    atomic.Pointer[Disk] // nil while there is no device
	info    atomic.Pointer[Info]
	passing atomic.Int64 // requests that the device has
	gone    atomic.Bool
	// readOnly refuses writes, whatever the device says.
	readOnly bool

	mu      sync.Mutex
	waiting List
	watch   func(Event)
}

var _ Disk = (*Slot)(nil)

// NewSlot returns a slot with a device in it, which nothing writes to if readOnly is
// set. The slot takes the device's events.
func NewSlot(d Disk, readOnly bool) *Slot {
	s := &Slot{readOnly: readOnly}
	s.take(d)
	return s
}

// look takes over what the device says of itself.
func (s *Slot) look(d Disk) {
	info := d.Info()
	info.ReadOnly = info.ReadOnly || s.readOnly
	s.info.Store(&info)
}

// take makes a device the slot's own.
func (s *Slot) take(d Disk) {
	s.look(d)
	s.disk.Store(&d)
	d.Watch(func(e Event) {
		if current := s.disk.Load(); current == nil || *current != d {
			return // of a device that was exchanged
		}
		if e == EventResized {
			s.look(d)
		}
		s.tell(e)
	})
}

// Info describes the device, or the last one that was there.
func (s *Slot) Info() Info { return *s.info.Load() }

// Watch sets who hears of events.
func (s *Slot) Watch(f func(Event)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watch = f
}

func (s *Slot) tell(e Event) {
	s.mu.Lock()
	f := s.watch
	s.mu.Unlock()
	if f != nil {
		f(e)
	}
}

// Submit passes a request to the device, or keeps it until there is one.
func (s *Slot) Submit(queue int, r *Request) {
	if s.readOnly && r.Op.Writes() {
		r.Complete(ErrProtected)
		return
	}
	if s.pass(queue, r) {
		return
	}
	s.mu.Lock()
	if s.gone.Load() {
		s.mu.Unlock()
		r.Complete(ErrRemoved)
		return
	}
	if s.disk.Load() == nil {
		s.waiting.Push(r)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.Submit(queue, r) // a device came meanwhile
}

// pass gives a request to the device, if there is one. The count goes up before
// the second look, and Hold takes the device away before it looks at the count: one
// of both sees the other.
func (s *Slot) pass(queue int, r *Request) bool {
	s.passing.Add(1)
	d := s.disk.Load()
	if d == nil {
		s.passing.Add(-1)
		return false
	}
	r.slot = s
	(*d).Submit(queue, r)
	return true
}

// took hears of the end of a request. It keeps one that ended because its device
// is being exchanged.
func (s *Slot) took(r *Request) bool {
	r.slot = nil
	again := errors.Is(r.Err, ErrRemoved) && s.disk.Load() == nil && !s.gone.Load()
	if again {
		s.mu.Lock()
		s.waiting.Push(r)
		s.mu.Unlock()
	}
	s.passing.Add(-1)
	return again
}

// Cancel asks for an early end of a request.
func (s *Slot) Cancel(r *Request) {
	s.mu.Lock()
	waits := s.waiting.Remove(r)
	s.mu.Unlock()
	if waits {
		r.Complete(ErrAborted)
	} else if d := s.disk.Load(); d != nil {
		(*d).Cancel(r)
	}
}

// Hold takes the device out of the slot and returns when it has no request any
// more. Requests wait from now on. When ctx ends first, the device is back.
func (s *Slot) Hold(ctx context.Context) error {
	d := s.disk.Swap(nil)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.passing.Load() != 0 {
		select {
		case <-ctx.Done():
			s.disk.CompareAndSwap(nil, d)
			s.resume()
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// Replace puts a device into the slot and starts what waits.
// Preconditions: Hold has returned without an error.
func (s *Slot) Replace(d Disk) {
	before := s.Info()
	s.take(d)
	s.resume()
	if s.Info() != before {
		s.tell(EventResized)
	}
}

// Remove ends the slot: what waits, and all that comes, ends with ErrRemoved.
func (s *Slot) Remove() {
	s.gone.Store(true)
	s.disk.Store(nil)
	s.resume()
	s.tell(EventRemoved)
}

// resume submits again what waits; without a device that ends it.
func (s *Slot) resume() {
	for {
		s.mu.Lock()
		r := s.waiting.Pop()
		s.mu.Unlock()
		if r == nil {
			return
		}
		s.Submit(0, r)
	}
}
