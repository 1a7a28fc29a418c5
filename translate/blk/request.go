package blk

import (
	"sync/atomic"
)

// Segment is a run of memory that a request moves data to or from.
type Segment struct {
	Data []byte // as the processor sees it; a guest may change it at any time
	// DMA is the address at which assigned devices reach the same memory, NoDMA
	// when they cannot: then the data is copied.
	DMA uint64
}

// NoDMA is the DMA of a Segment that devices cannot reach.
const NoDMA = ^uint64(0)

// Range is a run of blocks.
type Range struct {
	LBA    uint64
	Blocks uint64
}

// Request is one operation of a disk. Its owner sets the fields of the first
// group, and those that Op names; it may use the request again after Done.
type Request struct {
	Op       Op
	FUA      bool // complete only when the data is on stable storage
	Unmap    bool // OpWriteZeroes: the disk may give the space back
	LBA      uint64
	Blocks   uint32
	Segments []Segment // as long as the blocks, in all
	Ranges   []Range
	// Done is called once, on any goroutine, with Err set. It does not block.
	Done func(r *Request)
	Err  error

	parts atomic.Int32
	first atomic.Pointer[error]
	next  *Request
	slot  *Slot // that passed the request on
}

// Begin says that the request will complete in so many parts, each with a call of
// Finish. The disk calls it before the first part can finish.
func (r *Request) Begin(parts int) {
	r.first.Store(nil)
	r.parts.Store(int32(parts))
}

// Finish ends one part. The last one completes the request, with the first error
// that a part had.
func (r *Request) Finish(err error) {
	if err != nil {
		cause := err // only failures allocate
		r.first.CompareAndSwap(nil, &cause)
	}
	if r.parts.Add(-1) != 0 {
		return
	}
	if first := r.first.Load(); first != nil {
		r.Complete(*first)
		return
	}
	r.Complete(nil)
}

// Complete ends a request that has no parts.
func (r *Request) Complete(err error) {
	r.Err = err
	if s := r.slot; s != nil && s.took(r) {
		return // it starts again
	}
	r.Done(r)
}

// Check compares a request with the disk. Every disk calls it first in Submit:
// what it lets through has blocks that exist and data of the right length.
func (r *Request) Check(i *Info) error {
	switch r.Op {
	case OpFlush:
		return nil
	case OpDiscard:
		return r.checkRanges(i)
	case OpRead, OpWrite, OpCompare:
		var n uint64
		for _, s := range r.Segments {
			n += uint64(len(s.Data))
		}
		if n != uint64(r.Blocks)*uint64(i.BlockSize) {
			return ErrUnsupported
		}
	case OpWriteZeroes:
	default:
		return ErrUnsupported
	}
	switch {
	case r.Op != OpRead && r.Op != OpCompare && i.ReadOnly:
		return ErrProtected
	case r.Op == OpCompare && !i.Compare, r.Op == OpWriteZeroes && !i.WriteZeroes:
		return ErrUnsupported
	case i.MaxBlocks != 0 && r.Op != OpWriteZeroes && r.Blocks > i.MaxBlocks:
		return ErrUnsupported
	case r.Op == OpWriteZeroes && i.MaxZeroes != 0 && r.Blocks > i.MaxZeroes:
		return ErrUnsupported
	case !i.Holds(r.LBA, uint64(r.Blocks)):
		return ErrRange
	}
	return nil
}

func (r *Request) checkRanges(i *Info) error {
	switch {
	case i.ReadOnly:
		return ErrProtected
	case !i.Discard || uint64(len(r.Ranges)) > uint64(max(i.MaxRanges, 1)):
		return ErrUnsupported
	}
	for _, d := range r.Ranges {
		if i.MaxDiscard != 0 && d.Blocks > i.MaxDiscard {
			return ErrUnsupported
		}
		if !i.Holds(d.LBA, d.Blocks) {
			return ErrRange
		}
	}
	return nil
}

// Holds tells whether a run of blocks lies on the disk.
func (i *Info) Holds(lba, blocks uint64) bool {
	return lba <= i.Blocks && blocks <= i.Blocks-lba
}

// List is a first-in first-out queue of requests that wait for a disk. The zero
// value is empty. Adding allocates nothing. It is not safe for concurrent use.
type List struct{ head, tail *Request }

// Push adds a request that is in no list.
func (l *List) Push(r *Request) {
	r.next = nil
	if l.head == nil {
		l.head = r
	} else {
		l.tail.next = r
	}
	l.tail = r
}

// Pop takes the oldest request, nil when there is none.
func (l *List) Pop() *Request {
	r := l.head
	if r != nil {
		l.head, r.next = r.next, nil
	}
	return r
}

// Remove takes a request out of the list and tells whether it was there.
func (l *List) Remove(r *Request) bool {
	var before *Request
	for at := l.head; at != nil; before, at = at, at.next {
		if at != r {
			continue
		}
		if before == nil {
			l.head = r.next
		} else {
			before.next = r.next
		}
		if l.tail == r {
			l.tail = before
		}
		r.next = nil
		return true
	}
	return false
}
