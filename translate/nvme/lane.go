package nvme

import (
	"keel/translate/blk"
)

// lane is what one namespace has waiting at one queue pair. The pair's lock guards
// it.
type lane struct {
	n       *Namespace
	waiting blk.List
	queued  int    // requests in waiting
	cursor  cursor // the request whose parts are being issued
	next    *lane  // in the pair's list of lanes with work
	active  bool
}

// cursor is a request, and how much of it is issued.
type cursor struct {
	r     *blk.Request // nil when there is none
	lba   uint64
	left  uint32 // blocks
	at    place  // of the data
	index int    // range of OpDiscard
	done  uint64 // blocks of that range
	parts int    // that are not issued
	next  part   // the first of them
}

// push adds a request to those that wait.
func (l *lane) push(r *blk.Request) {
	l.waiting.Push(r)
	l.queued++
}

// pop takes the oldest request that waits, nil when there is none.
func (l *lane) pop() *blk.Request {
	r := l.waiting.Pop()
	if r != nil {
		l.queued--
	}
	return r
}

// remove takes a request out of those that wait.
func (l *lane) remove(r *blk.Request) bool {
	found := l.waiting.Remove(r)
	if found {
		l.queued--
	}
	return found
}

// begin takes up a request and tells it in how many parts it will complete.
func (l *lane) begin(q *queue, r *blk.Request) {
	l.cursor = cursor{r: r, lba: r.LBA, left: r.Blocks, parts: 1}
	c := &l.cursor
	switch r.Op {
	case blk.OpRead, blk.OpWrite, blk.OpCompare:
		size := l.n.blockSize
		// The request must know the number of its parts before the first can end, so
		// that all are planned once to be counted. Most have one.
		c.next = q.limits.plan(r.Segments, c.at, c.left, size)
		at, p, left := c.at, c.next, c.left
		for left > p.blocks {
			left -= p.blocks
			at.skip(r.Segments, int(p.blocks*size))
			p = q.limits.plan(r.Segments, at, left, size)
			c.parts++
		}
	case blk.OpWriteZeroes:
		c.parts = int((uint64(c.left) + maxZeroBlocks - 1) / maxZeroBlocks)
	case blk.OpDiscard:
		pieces := 0
		for _, d := range r.Ranges {
			pieces += int((d.Blocks + maxRangeBlocks - 1) / maxRangeBlocks)
		}
		each := min(q.limits.list/rangeSize, maxRanges)
		c.parts = (pieces + each - 1) / each
	case blk.OpFlush:
	}
	r.Begin(c.parts)
}

// skip moves a place forward.
func (p *place) skip(segments []blk.Segment, bytes int) {
	for bytes > 0 {
		data, _, ok := p.next(segments, bytes)
		if !ok {
			return
		}
		bytes -= len(data)
	}
}

// pages is how many pages of the pool the next part needs.
func (c *cursor) pages(size uint32) int {
	if c.next.mode != modeBounce {
		return 0
	}
	return pagesOf(int(c.next.blocks * size))
}

// empty tells whether a request asks for nothing.
func empty(r *blk.Request) bool {
	switch r.Op {
	case blk.OpFlush:
		return false
	case blk.OpDiscard:
		for _, d := range r.Ranges {
			if d.Blocks != 0 {
				return false
			}
		}
		return true
	case blk.OpRead, blk.OpWrite, blk.OpCompare, blk.OpWriteZeroes:
	}
	return r.Blocks == 0
}

// build makes the command of the next part in a slot, and moves the cursor behind
// it.
func (l *lane) build(q *queue, s *slot, number int) bool {
	c, r, n := &l.cursor, l.cursor.r, l.n
	list := q.list(number)
	count, flags := c.left, uint32(0)
	if r.FUA {
		flags = dw12FUA
	}
	switch r.Op {
	case blk.OpFlush:
		s.command.start(cmdFlush, n.id)
	case blk.OpDiscard:
		s.command.start(cmdDataset, n.id)
		var entries int
		entries, c.index, c.done = ranges(list.Bytes, r.Ranges, c.index, c.done)
		s.command.prp(list.DMA, 0)
		s.command.dword(10, uint32(entries-1))
		s.command.dword(11, dw11Deallocate)
		return entries > 0
	case blk.OpWriteZeroes:
		count = min(count, maxZeroBlocks)
		if r.Unmap && n.deallocate.Load() {
			flags |= dw12Deallocate
		}
		s.command.start(cmdWriteZeroes, n.id)
		s.command.blocks(c.lba, count, flags)
	case blk.OpRead, blk.OpWrite, blk.OpCompare:
		if count = c.next.blocks; count > c.left {
			return false
		}
		s.command.start(opcodes[r.Op], n.id)
		if !l.data(q, s, number) {
			return false
		}
		s.command.blocks(c.lba, count, flags)
	}
	c.lba += uint64(count)
	c.left -= count
	return true
}

// opcodes of the requests that move data.
var opcodes = [...]byte{blk.OpRead: cmdRead, blk.OpWrite: cmdWrite, blk.OpCompare: cmdCompare}

// data makes the data pointer of the next part and plans the one behind it.
func (l *lane) data(q *queue, s *slot, number int) bool {
	c, r, size := &l.cursor, l.cursor.r, l.n.blockSize
	bytes, list := int(c.next.blocks*size), q.list(number)
	ok := false
	switch c.next.mode {
	case modePRP:
		ok = direct(&s.command, list, r.Segments, &c.at, bytes)
	case modeSGL:
		ok = scattered(&s.command, list, r.Segments, &c.at, bytes)
	case modeBounce:
		s.pages, s.bytes, s.at = q.pool.take(pagesOf(bytes)), bytes, c.at
		ok = q.pool.aim(&s.command, list, s.pages, bytes)
		if r.Op == blk.OpRead {
			c.at.skip(r.Segments, bytes)
		} else {
			c.at = q.pool.move(s.pages, r.Segments, c.at, bytes, false)
		}
		q.count.bounced.Add(uint64(bytes))
	case modeNone:
	}
	if left := c.left - c.next.blocks; left > 0 {
		c.next = q.limits.plan(r.Segments, c.at, left, size)
	}
	return ok
}
