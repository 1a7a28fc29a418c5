package vmbus

import (
	"encoding/binary"
	"sync"
)

// outRing is what the server writes and the guest reads. Completions come from any
// goroutine, so it has a lock of its own.
type outRing struct {
	mu sync.Mutex
	ring
	live    bool
	at      uint32 // index of the next packet
	blocked bool   // the guest was asked to signal when there is room
	head    [sizeDescriptor]byte
	tail    [2 * packetUnit]byte
}

// open takes over a ring as the guest prepared it.
func (r *outRing) open(made ring) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring = made
	at, ok := r.index(ctlWrite)
	if _, valid := r.index(ctlRead); !ok || !valid {
		return false
	}
	r.at, r.live, r.blocked = at, true, false
	r.store(ctlPending, 0)
	// The guest then interrupts when it made the room that was asked for.
	r.store(ctlFeatures, featurePending)
	return true
}

// close ends all use of the guest's pages.
func (r *outRing) close() {
	r.mu.Lock()
	r.live, r.ring = false, ring{}
	r.mu.Unlock()
}

// send puts a packet into the ring. It returns true when the guest must be
// interrupted.
func (r *outRing) send(kind, flags uint16, transaction uint64, payload []byte) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.live {
		return false, ErrClosed
	}
	padding := -len(payload) & (packetUnit - 1)
	length := sizeDescriptor + len(payload) + padding
	total := uint32(length + sizeTrailer)
	if length/packetUnit > 0xFFFF || total >= r.size {
		return false, ErrTooLong
	}
	if err := r.reserve(total); err != nil {
		return false, err
	}
	d := r.head[:]
	binary.LittleEndian.PutUint16(d, kind)
	binary.LittleEndian.PutUint16(d[2:], sizeDescriptor/packetUnit)
	binary.LittleEndian.PutUint16(d[4:], uint16(length/packetUnit))
	binary.LittleEndian.PutUint16(d[6:], flags)
	binary.LittleEndian.PutUint64(d[8:], transaction)
	start := r.at
	r.write(start, d)
	r.write(r.add(start, sizeDescriptor), payload)
	// Zero padding, and a trailer with the index of the packet in its high half.
	clear(r.tail[:])
	binary.LittleEndian.PutUint32(r.tail[padding+4:], start)
	r.write(r.add(start, uint32(sizeDescriptor+len(payload))), r.tail[:padding+sizeTrailer])
	r.at = r.add(start, total)
	r.store(ctlWrite, r.at)
	// Only a guest that found the ring empty, and did not mask, waits for an
	// interrupt. An absurd read index costs the guest its own interrupt.
	return r.load(ctlMask) == 0 && r.load(ctlRead) == start, nil
}

// reserve looks for room. Where there is none it tells the guest how much is
// wanted, and then looks again: the guest may have read in between, before it could
// see the wish.
func (r *outRing) reserve(total uint32) error {
	for try := range 2 {
		read, ok := r.index(ctlRead)
		if !ok {
			return ErrRing
		}
		if r.size-r.used(read, r.at) > total {
			if r.blocked || try > 0 {
				r.blocked = false
				r.store(ctlPending, 0)
			}
			return nil
		}
		if try == 0 {
			r.store(ctlPending, total)
		}
	}
	r.blocked = true
	return ErrFull
}

// waits tells whether a packet did not fit.
func (r *outRing) waits() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.blocked
}
