package virtio

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"keel/hcl/abi/x86"
)

// Causes for which a device stops.
var (
	ErrRing  = errors.New("malformed virtqueue")
	ErrChain = errors.New("malformed descriptor chain")
)

var (
	errAlignment = errors.New("misaligned")
	errIndex     = errors.New("available index runs ahead")
	errInFlight  = errors.New("more chains in flight than the queue holds")
)

// Queue is a virtqueue.
type Queue struct {
	device *Device
	index  int
	max    uint16
	chains []Chain
	ring   atomic.Pointer[ring] // nil unless enabled
	vector atomic.Uint32
	active *ring // during Handler.Available

	taken, interrupts, dropped, handed atomic.Uint64

	// Guarded by the device's mu.
	size               uint16
	desc, driver, used uint64
	enabled            bool
	draining           *ring // dead, with chains in flight
}

// Index is the queue's number.
func (q *Queue) Index() int { return q.index }

// ring is one incarnation of an enabled queue: where it lies never changes. A
// reset kills it, and the next enable makes another one.
//
// Its memory belongs to the guest, and Go has no atomic operations on it. What is
// needed instead holds on x86, the only processor that runs this: a load of 16
// bits through encoding/binary is one instruction, which the compiler does not
// repeat (Go memory model: a read must not observe several values) and keeps on its
// side of atomic operations; the processor keeps loads in order with loads, stores
// with stores (Intel SDM vol. 3 §9.2.2). A store before a load is the exception:
// an atomic read-modify-write of a word of our own, the fence, orders those.
type ring struct {
	queue    *Queue
	size     uint16
	indirect bool
	events   bool // event indices instead of flags
	desc     []byte
	avail    []byte
	usedRing []byte

	users atomic.Int64 // calls at work, and chains in flight
	dead  atomic.Bool
	again atomic.Bool // somebody found takeMu taken
	later atomic.Bool // a goroutine will continue
	fence atomic.Uint32

	takeMu sync.Mutex // never waited for
	next   uint16     // available index
	budget int        // of the running call
	quiet  bool       // notifications are off

	usedMu    sync.Mutex
	index     uint16   // used index
	signalled uint16   // used index of the last decision about an interrupt
	held      bool     // decide later
	free      []uint16 // slots
}

// enable makes the ring that the queue's registers describe. The caller holds the
// device's mu.
func (q *Queue) enable() error {
	f := q.device.Features()
	r := &ring{
		queue: q, size: q.size, indirect: f&FeatureIndirect != 0, events: f&FeatureEventIndex != 0,
		free: make([]uint16, 0, q.size),
	}
	n := int(q.size)
	for _, part := range []struct {
		name  string
		at    uint64
		size  int
		align uint64
		view  *[]byte
	}{
		{"descriptors", q.desc, descSize * n, alignDesc, &r.desc},
		{"available ring", q.driver, ringExtra + availEntry*n, alignAvail, &r.avail},
		{"used ring", q.used, ringExtra + usedEntry*n, alignUsed, &r.usedRing},
	} {
		if part.at%part.align != 0 {
			return fmt.Errorf("%w: queue %d: %s at %#x: %w", ErrRing, q.index, part.name, part.at, errAlignment)
		}
		view, err := q.device.memory.Slice(x86.GPA(part.at), part.size)
		if err != nil {
			return fmt.Errorf("%w: queue %d: %s: %w", ErrRing, q.index, part.name, err)
		}
		*part.view = view
	}
	for i := range q.size {
		r.free = append(r.free, q.size-1-i)
	}
	q.enabled = true
	q.ring.Store(r)
	return nil
}

// Kick looks for chains, as the driver's notification does. It may be called from
// any goroutine and does not wait for another call: that one looks again. A call
// takes at most as many chains as the queue holds; a goroutine takes the rest.
func (q *Queue) Kick() {
	r := q.ring.Load()
	if r == nil || !r.enter() {
		return
	}
	r.again.Store(true)
	r.run()
	r.leave()
}

// run takes chains while nobody else does, and again when somebody wanted to.
func (r *ring) run() {
	q := r.queue
	for budget := int(r.size); r.again.Load() && r.takeMu.TryLock(); {
		r.again.Store(false)
		more := false
		if q.device.Running() {
			r.budget, q.active = budget, r
			r.hold()
			q.device.handler.Available(q)
			r.release()
			budget = r.budget - 1
			more = budget <= 0 && (r.again.Load() || r.availIndex() != r.next || !r.rearm())
		}
		r.takeMu.Unlock()
		if !more {
			continue
		}
		if !r.later.Swap(true) {
			q.handed.Add(1)
			go func() {
				r.later.Store(false)
				q.Kick()
			}()
		}
		return
	}
}

// enter keeps a reset from ending, and fails when one has begun.
func (r *ring) enter() bool {
	r.users.Add(1)
	if r.dead.Load() {
		r.leave()
		return false
	}
	return true
}

func (r *ring) leave() {
	if r.users.Add(-1) == 0 && r.dead.Load() {
		r.queue.device.drained()
	}
}

// Next takes a chain, nil when there is none or this call has taken enough. It is
// called inside Handler.Available only. The chain is the Handler's until Complete.
func (q *Queue) Next() *Chain {
	r := q.active
	for r.budget > 0 && !r.dead.Load() && q.device.Running() {
		waiting := r.availIndex() - r.next
		if waiting == 0 && r.rearm() {
			return nil
		}
		r.budget-- // also where a driver plays with the index
		if waiting == 0 {
			continue
		}
		if waiting > r.size {
			q.device.fail(fmt.Errorf("%w: queue %d: %w", ErrRing, q.index, errIndex))
			return nil
		}
		r.beQuiet()
		head := get16(r.avail[ringEntries+availEntry*int(r.next&(r.size-1)):])
		r.next++
		slot, ok := r.takeSlot()
		if !ok {
			q.device.fail(fmt.Errorf("%w: queue %d: %w", ErrRing, q.index, errInFlight))
			return nil
		}
		c := &q.chains[slot]
		c.ring, c.slot, c.head = r, slot, head
		if err := c.walk(); err != nil {
			r.putSlot(slot)
			q.device.fail(fmt.Errorf("%w: queue %d: %w", ErrChain, q.index, err))
			return nil
		}
		r.users.Add(1)
		q.taken.Add(1)
		return c
	}
	return nil
}
