package vsock

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ErrRing says that the guest's driver does not follow virtio: the device stops
// until it is reset.
var ErrRing = errors.New("malformed virtqueue")

var (
	errAddress    = errors.New("not in guest memory")
	errAlignment  = errors.New("misaligned")
	errAvailable  = errors.New("available index runs ahead")
	errDescriptor = errors.New("no such descriptor")
	errLoop       = errors.New("a loop, or too many descriptors")
	errDirection  = errors.New("descriptor of the wrong direction")
	errIndirect   = errors.New("bad indirect table")
	errTiny       = errors.New("no room for a packet's header")
)

// maxSegments bounds the pieces of a chain. Linux uses at most 18.
const maxSegments = 256

// event is what is written to an eventfd.
var event = [8]byte{1}

// vring is a split virtqueue (virtio 1.2 §2.7), driven by the device's one
// goroutine.
//
// Its memory is shared with the guest, and Go has no atomic operations on it. On
// x86 what is needed holds: a load or store of 16 bits through encoding/binary is
// one instruction; the processor keeps loads and stores in order (Intel SDM vol. 3
// §9.2.2) but for a store before a load, which fence orders.
type vring struct {
	index int

	// As the front end's messages said.
	size              uint16
	desc, used, avail uint64 // its addresses
	base              uint16
	kick, call, err   int // eventfds, -1 for none
	enabled           bool

	started  bool
	stopped  int // what GET_VRING_BASE answered last, -1 for what no driver continues
	indirect bool
	events   bool // event indices instead of flags

	table, availRing, usedRing []byte
	next, usedIndex            uint16 // the next entry of either ring
	signalled                  uint16 // used index of the last decision about an interrupt
	decided                    bool   // signalled is valid
	quiet                      bool   // notifications are off
	fence                      atomic.Uint32

	// The chain that next is about.
	have     bool
	head     uint16
	writable bool // what its segments must be
	segments [][]byte
	bytes    uint64
}

// view finds the ring's parts in memory.
func (r *vring) view(m *memory) error {
	r.have = false
	n := int(r.size)
	for _, part := range []struct {
		name  string
		at    uint64
		size  int
		align uint64
		view  *[]byte
	}{
		{"descriptors", r.desc, descBytes * n, 16, &r.table},
		{"available ring", r.avail, ringExtra + availEntry*n, 2, &r.availRing},
		{"used ring", r.used, ringExtra + usedEntry*n, 4, &r.usedRing},
	} {
		*part.view = m.user(part.at, part.size)
		switch {
		case n == 0 || *part.view == nil:
			return r.bad(part.name, errAddress)
		case part.at%part.align != 0:
			return r.bad(part.name, errAlignment)
		}
	}
	return nil
}

func (r *vring) bad(what string, err error) error {
	return fmt.Errorf("%w: queue %d: %s: %w", ErrRing, r.index, what, err)
}

// blind forgets the views.
func (r *vring) blind() {
	r.table, r.availRing, r.usedRing, r.have = nil, nil, nil, false
	clear(r.segments[:cap(r.segments)])
	r.segments = r.segments[:0]
}

// available loads the available index before anything that it announces.
func (r *vring) available() uint16 {
	v := le.Uint16(r.availRing[ringIndex:])
	r.fence.Load() // keeps the compiler from moving later loads up
	return v
}

// peek makes the next chain the current one, and tells whether there is one.
// Its descriptors are read once and then checked. An error breaks the device.
func (r *vring) peek(m *memory) (bool, error) {
	if r.have {
		return true, nil
	}
	waiting := r.available() - r.next
	switch {
	case waiting == 0:
		return false, nil
	case waiting > r.size:
		return false, r.bad("index", errAvailable)
	}
	if !r.events && !r.quiet {
		le.PutUint16(r.usedRing[ringFlags:], noNotify)
		r.quiet = true
	}
	r.head = le.Uint16(r.availRing[ringEntries+availEntry*int(r.next%r.size):])
	if err := r.walk(m); err != nil {
		return false, r.bad("chain", err)
	}
	r.have = true
	return true, nil
}

// walk collects the segments of the chain at head.
func (r *vring) walk(m *memory) error {
	r.segments, r.bytes = r.segments[:0], 0
	table, limit, inside := r.table, int(r.size), false
	at := r.head
	for seen := 0; ; seen++ {
		if int(at) >= limit {
			return errDescriptor
		}
		if seen >= limit || seen >= maxSegments {
			return errLoop
		}
		d := table[descBytes*int(at):][:descBytes]
		address, length := le.Uint64(d), le.Uint32(d[descLength:])
		flags, next := le.Uint16(d[descFlags:]), le.Uint16(d[descNext:])
		if flags&flagIndirect == 0 {
			if (flags&flagWrite != 0) != r.writable {
				return errDirection
			}
			if err := r.add(m, address, length); err != nil {
				return err
			}
			if flags&flagNext == 0 {
				return nil
			}
			at = next
			continue
		}
		if !r.indirect || inside || flags&flagNext != 0 || length == 0 || length%descBytes != 0 || length > maxSegments*descBytes {
			return errIndirect
		}
		if table = m.guest(address, length); len(table) != int(length) {
			return errAddress
		}
		limit, inside = int(length/descBytes), true
		at, seen = 0, -1
	}
}

// add appends a buffer, which may lie in more than one region.
func (r *vring) add(m *memory, address uint64, length uint32) error {
	for length > 0 {
		b := m.guest(address, length)
		if len(b) == 0 {
			return errAddress
		}
		if len(r.segments) == maxSegments {
			return errLoop
		}
		r.segments = append(r.segments, b)
		r.bytes += uint64(len(b))
		address += uint64(len(b))
		length -= uint32(len(b))
	}
	return nil
}

// done gives the current chain back to the driver, with written bytes in it.
func (r *vring) done(written uint32) {
	entry := r.usedRing[ringEntries+usedEntry*int(r.usedIndex%r.size):][:usedEntry]
	le.PutUint32(entry, uint32(r.head))
	le.PutUint32(entry[4:], written)
	r.fence.Load() // the entry comes first for the compiler too
	r.usedIndex++
	le.PutUint16(r.usedRing[ringIndex:], r.usedIndex)
	r.next++
	r.have = false
}

// rearm asks for a notification of the next chain and tells whether there is
// still none (§2.7.10). Either the driver sees the request, or this call sees the
// chain.
func (r *vring) rearm() bool {
	switch {
	case r.events:
		le.PutUint16(r.usedRing[ringEntries+usedEntry*int(r.size):], r.next)
	case r.quiet:
		le.PutUint16(r.usedRing[ringFlags:], 0)
		r.quiet = false
	}
	r.fence.Add(1)
	return r.available() == r.next
}

// signal interrupts the driver when it wants to hear of the chains that were done
// since the last call (§2.7.7).
func (r *vring) signal() {
	if !r.started || r.usedRing == nil || r.decided && r.usedIndex == r.signalled {
		return
	}
	old, first := r.signalled, !r.decided
	r.signalled, r.decided = r.usedIndex, true
	r.fence.Add(1) // the used index is visible before the look at what the driver wants
	if r.events {
		wanted := le.Uint16(r.availRing[ringEntries+availEntry*int(r.size):])
		if !first && r.usedIndex-wanted-1 >= r.usedIndex-old {
			return
		}
	} else if le.Uint16(r.availRing[ringFlags:])&noInterrupt != 0 {
		return
	}
	notify(r.call)
}

// notify raises an event. A full counter has been raised already.
func notify(fd int) {
	if fd >= 0 {
		_, _ = unix.Write(fd, event[:])
	}
}

// gather copies the front of the current chain.
func (r *vring) gather(to []byte) {
	for _, s := range r.segments {
		k := copy(to, s)
		if to = to[k:]; len(to) == 0 {
			return
		}
	}
}

// scatter copies to the front of the current chain.
func (r *vring) scatter(from []byte) {
	for _, s := range r.segments {
		k := copy(s, from)
		if from = from[k:]; len(from) == 0 {
			return
		}
	}
}
