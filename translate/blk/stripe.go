package blk

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// ErrStripe says that disks cannot be striped.
var ErrStripe = errors.New("disks cannot be striped")

// stripeShards of free and busy children: requests of different queues do not
// share a lock.
const stripeShards = 16

// stripe spreads chunks of blocks over its members, in turn. A member's share of a
// run of blocks is one run of the member's blocks.
type stripe struct {
	disks  []Disk
	chunk  uint64 // blocks
	id     [16]byte
	gone   atomic.Bool
	shards [stripeShards]stripeShard
}

type stripeShard struct {
	mu   sync.Mutex
	free *child
	busy *child // doubly linked
	_    [40]byte
}

// child is a request to a member. Children are made when there are too few, and
// kept.
type child struct {
	Request
	parent     *Request
	s          *stripe
	home       *stripeShard
	disk       int
	next, prev *child
	pins       int // who is about to cancel it
	ended      bool
	segments   []Segment
	ranges     []Range
}

// NewStripe makes one disk of several, which are equal in size and block size:
// chunkBlocks blocks of the first one, then as many of the second one, and so on.
// What does not fill a chunk at the end of the members is not used. The members
// belong to the stripe from now on.
func NewStripe(chunkBlocks uint32, disks ...Disk) (Disk, error) {
	if chunkBlocks == 0 || len(disks) < 2 {
		return nil, fmt.Errorf("%w: %d disks, chunks of %d blocks", ErrStripe, len(disks), chunkBlocks)
	}
	first := disks[0].Info()
	hash := sha256.New()
	for n, d := range disks {
		i := d.Info()
		switch {
		case i.BlockSize != first.BlockSize:
			return nil, fmt.Errorf("%w: disk %d has blocks of %d bytes, disk 0 of %d", ErrStripe, n, i.BlockSize, first.BlockSize)
		case i.Blocks != first.Blocks:
			return nil, fmt.Errorf("%w: disk %d has %d blocks, disk 0 has %d", ErrStripe, n, i.Blocks, first.Blocks)
		case i.Blocks < uint64(chunkBlocks):
			return nil, fmt.Errorf("%w: %d blocks hold no chunk of %d", ErrStripe, i.Blocks, chunkBlocks)
		}
		hash.Write(i.ID[:])
	}
	s := &stripe{disks: disks, chunk: uint64(chunkBlocks)}
	hash.Write(binary.BigEndian.AppendUint32(nil, chunkBlocks))
	copy(s.id[:], hash.Sum(nil))
	return s, nil
}

// Info combines what the members say: the stripe can do what all of them can. Its
// bounds are those of requests of which a member gets a few.
func (s *stripe) Info() Info {
	n := uint64(len(s.disks))
	c := s.disks[0].Info()
	for _, d := range s.disks[1:] {
		i := d.Info()
		c.Blocks = min(c.Blocks, i.Blocks)
		c.PhysicalSize = max(c.PhysicalSize, i.PhysicalSize)
		c.MaxBlocks, c.MaxZeroes = bound(c.MaxBlocks, i.MaxBlocks), bound(c.MaxZeroes, i.MaxZeroes)
		c.ReadOnly, c.Volatile = c.ReadOnly || i.ReadOnly, c.Volatile || i.Volatile
		c.Discard, c.DiscardZeroes = c.Discard && i.Discard, c.DiscardZeroes && i.DiscardZeroes
		c.DiscardUnit, c.MaxDiscard = max(c.DiscardUnit, i.DiscardUnit), bound(c.MaxDiscard, i.MaxDiscard)
		c.MaxRanges = min(max(c.MaxRanges, 1), max(i.MaxRanges, 1))
		c.WriteZeroes, c.Compare = c.WriteZeroes && i.WriteZeroes, c.Compare && i.Compare
	}
	c.Blocks = c.Blocks / s.chunk * s.chunk * n
	c.MaxBlocks = uint32(min(uint64(c.MaxBlocks)*n, 1<<32-1))
	c.MaxZeroes = uint32(min(uint64(c.MaxZeroes)*n, 1<<32-1))
	c.MaxDiscard = min(c.MaxDiscard, ^uint64(0)/n) * n
	c.Optimal = uint32(min(s.chunk*n, 1<<32-1))
	c.ID, c.Serial = s.id, ""
	return c
}

// bound returns the smaller of two bounds, of which 0 is none.
func bound[T uint32 | uint64](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Watch forwards what members say, one event at a time. A stripe is gone when one
// member is.
func (s *stripe) Watch(f func(Event)) {
	var mu sync.Mutex
	for _, d := range s.disks {
		d.Watch(func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			if e == EventRemoved && s.gone.Swap(true) {
				return
			}
			f(e)
		})
	}
}

// share returns how many of the first x blocks of the stripe are a member's.
func (s *stripe) share(x uint64, disk int) uint64 {
	row := s.chunk * uint64(len(s.disks))
	part, before := x%row, s.chunk*uint64(disk)
	if part <= before {
		return x / row * s.chunk
	}
	return x/row*s.chunk + min(part-before, s.chunk)
}

// Submit splits a request. All parts are made before one is submitted, since the
// last part to end takes the request away.
func (s *stripe) Submit(queue int, r *Request) {
	i := s.Info()
	err := r.Check(&i)
	if s.gone.Load() {
		err = ErrRemoved
	}
	if err != nil {
		r.Complete(err)
		return
	}
	home := &s.shards[uint(queue)%stripeShards]
	var first *child
	parts := 0
	add := func(disk int) *child {
		c := home.take(s)
		c.parent, c.disk = r, disk
		c.Op, c.FUA, c.Unmap = r.Op, r.FUA, r.Unmap
		c.LBA, c.Blocks, c.Segments, c.Ranges = 0, 0, nil, nil
		c.next, first = first, c
		parts++
		return c
	}
	for n := range s.disks {
		switch r.Op {
		case OpFlush:
			add(n)
		case OpDiscard:
			s.splitRanges(n, r, add)
		default:
			s.splitBlocks(n, r, add)
		}
	}
	if parts == 0 {
		r.Complete(nil)
		return
	}
	r.Begin(parts)
	for c := first; c != nil; {
		next := c.next
		home.start(c)
		s.disks[c.disk].Submit(queue, &c.Request)
		c = next
	}
}

// splitBlocks makes the requests for a member's share of a run of blocks.
func (s *stripe) splitBlocks(disk int, r *Request, add func(int) *child) {
	i := s.disks[disk].Info()
	limit := i.MaxBlocks
	if r.Op == OpWriteZeroes {
		limit = i.MaxZeroes
	}
	at, end := s.share(r.LBA, disk), s.share(r.LBA+uint64(r.Blocks), disk)
	for at < end {
		n := end - at
		if limit != 0 {
			n = min(n, uint64(limit))
		}
		c := add(disk)
		c.LBA, c.Blocks = at, uint32(n)
		if r.Op != OpWriteZeroes {
			c.segments = s.appendData(c.segments[:0], r, disk, at, n, uint64(i.BlockSize))
			c.Segments = c.segments
		}
		at += n
	}
}

// appendData appends the memory of a member's blocks: of each chunk, what lies at
// its place in the stripe.
func (s *stripe) appendData(dst []Segment, r *Request, disk int, at, n, size uint64) []Segment {
	var cur cursor
	for n > 0 {
		within := at % s.chunk
		take := min(s.chunk-within, n)
		lba := (at/s.chunk*uint64(len(s.disks))+uint64(disk))*s.chunk + within
		dst = cur.append(dst, r.Segments, (lba-r.LBA)*size, take*size)
		at += take
		n -= take
	}
	return dst
}

// cursor walks over segments, always forward.
type cursor struct {
	index  int
	before uint64 // bytes of the segments before index
}

func (w *cursor) append(dst, src []Segment, from, n uint64) []Segment {
	for n > 0 && w.index < len(src) {
		s := src[w.index]
		size := uint64(len(s.Data))
		if from >= w.before+size {
			w.before += size
			w.index++
			continue
		}
		off := from - w.before
		take := min(size-off, n)
		s.Data = s.Data[off : off+take]
		if s.DMA != NoDMA {
			s.DMA += off
		}
		dst = append(dst, s)
		from += take
		n -= take
	}
	return dst
}

// splitRanges makes the requests for a member's shares of ranges.
func (s *stripe) splitRanges(disk int, r *Request, add func(int) *child) {
	i := s.disks[disk].Info()
	var c *child
	for _, x := range r.Ranges {
		at, end := s.share(x.LBA, disk), s.share(x.LBA+x.Blocks, disk)
		for at < end {
			n := end - at
			if i.MaxDiscard != 0 {
				n = min(n, i.MaxDiscard)
			}
			if c == nil || len(c.ranges) >= int(max(i.MaxRanges, 1)) {
				c = add(disk)
				c.ranges = c.ranges[:0]
			}
			c.ranges = append(c.ranges, Range{LBA: at, Blocks: n})
			c.Ranges = c.ranges
			at += n
		}
	}
}

// Cancel cancels the parts that are under way.
func (s *stripe) Cancel(r *Request) {
	for n := range s.shards {
		h := &s.shards[n]
		var found []*child
		h.mu.Lock()
		for c := h.busy; c != nil; c = c.next {
			if c.parent == r && !c.ended {
				c.pins++
				found = append(found, c)
			}
		}
		h.mu.Unlock()
		for _, c := range found {
			s.disks[c.disk].Cancel(&c.Request)
			h.unpin(c)
		}
	}
}

// take returns a child to fill in.
func (h *stripeShard) take(s *stripe) *child {
	h.mu.Lock()
	c := h.free
	if c != nil {
		h.free = c.next
	}
	h.mu.Unlock()
	if c == nil {
		c = &child{s: s, home: h}
		c.Done = c.done // once in its life
	}
	return c
}

// start lists a child that is about to be submitted.
func (h *stripeShard) start(c *child) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.ended, c.pins = false, 0
	c.prev, c.next = nil, h.busy
	if h.busy != nil {
		h.busy.prev = c
	}
	h.busy = c
}

// done ends a child, unless somebody is about to cancel it: then that one does.
func (c *child) done(*Request) {
	h := c.home
	h.mu.Lock()
	c.ended = true
	if c.pins > 0 {
		h.mu.Unlock()
		return
	}
	h.retire(c)
}

func (h *stripeShard) unpin(c *child) {
	h.mu.Lock()
	c.pins--
	if c.pins > 0 || !c.ended {
		h.mu.Unlock()
		return
	}
	h.retire(c)
}

// retire makes a child free and ends a part of its parent. Preconditions: locked;
// it unlocks.
func (h *stripeShard) retire(c *child) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		h.busy = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	parent, err := c.parent, c.Err
	c.parent, c.Segments = nil, nil
	clear(c.segments) // no hold on the guest's memory
	c.prev, c.next, h.free = nil, h.free, c
	h.mu.Unlock()
	parent.Finish(err)
}
