package vmbus

import (
	"errors"
	"sync/atomic"
)

// Errors of rings.
var (
	// ErrRing says that the indices or lengths in a ring cannot be: what follows in
	// it has no meaning.
	ErrRing = errors.New("ring is broken")
	// ErrFull says that the guest has to take packets out of the ring first.
	ErrFull = errors.New("ring is full")
	// ErrClosed says that the channel is not open.
	ErrClosed = errors.New("channel is closed")
	// ErrTooLong says that a packet can never fit into the ring.
	ErrTooLong = errors.New("packet is longer than the ring")

	// errSkipped says that the packet was passed over.
	errSkipped = errors.New("packet was skipped")
)

// ring is one direction of a channel: a control page and data pages that lie
// anywhere in guest memory and follow each other in the ring.
//
// Only the words of the control page are shared state. Each side owns one index,
// keeps a copy of its own and never reads it back; the other index is read once,
// checked and then used. All accesses to the control page are sync/atomic
// operations, which are sequentially consistent: a store of an index or of the
// interrupt mask comes before the load that follows it in the text (on amd64 the
// store is an XCHG, a full barrier), and the packet's bytes, which are written
// before the index, are seen by whoever sees the index. The protocol needs that
// store-to-load order in three places: mask and then look once more; index and then
// look at the peer's mask; pending size and then look for room.
type ring struct {
	ctl   []uint32
	pages [][]byte
	size  uint32 // bytes of all data pages
}

// makeRing builds a ring over pages, the first of which is the control page. words
// is its view as words.
func makeRing(words []uint32, pages [][]byte) ring {
	return ring{ctl: words, pages: pages[1:], size: uint32(len(pages)-1) * pageSize}
}

func (r *ring) load(word int) uint32     { return atomic.LoadUint32(&r.ctl[word]) }
func (r *ring) store(word int, v uint32) { atomic.StoreUint32(&r.ctl[word], v) }

// index reads and checks an index.
func (r *ring) index(word int) (uint32, bool) {
	v := r.load(word)
	return v, v < r.size && v%packetUnit == 0
}

// add moves an index on. n is at most the size.
func (r *ring) add(at, n uint32) uint32 {
	at += n
	if at >= r.size {
		at -= r.size
	}
	return at
}

// used returns the bytes between two indices.
func (r *ring) used(read, write uint32) uint32 {
	if write >= read {
		return write - read
	}
	return r.size - read + write
}

// read copies out of the ring from an index on, over its end.
func (r *ring) read(at uint32, p []byte) {
	for len(p) > 0 {
		n := copy(p, r.pages[at/pageSize][at%pageSize:])
		p = p[n:]
		at = r.add(at, uint32(n))
	}
}

// write copies into the ring from an index on, over its end.
func (r *ring) write(at uint32, p []byte) {
	for len(p) > 0 {
		n := copy(r.pages[at/pageSize][at%pageSize:], p)
		p = p[n:]
		at = r.add(at, uint32(n))
	}
}
