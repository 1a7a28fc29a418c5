package scsi

import (
	"sync"

	"keel/translate/blk"
)

// Of the controller's own memory: commands that need to look at data share a few
// buffers. Guest data that is only moved never passes through them.
const (
	bufferBytes = 128 << 10
	buffers     = 4
	// maxRanges bounds the block descriptors of UNMAP.
	maxRanges = 256
)

// buffer is the memory of one command. No device reaches it: its segments have no
// DMA address.
type buffer struct {
	data   []byte
	ranges [maxRanges]blk.Range
	piece  [1]blk.Range
}

// pool hands out buffers, in the order in which they were asked for. Buffers are
// made when they are first needed.
type pool struct {
	mu         sync.Mutex
	free       [buffers]*buffer
	frees      int // valid entries of free
	made       int
	head, tail *Command // waiting ones, linked by link
	waiting    int
	starting   bool // somebody is in put's loop
}

// get gives the command a buffer and says true. Otherwise the command waits, or
// has ended with TASK SET FULL.
func (p *pool) get(c *Command) bool {
	p.mu.Lock()
	switch {
	case p.frees > 0:
		p.frees--
		c.buf = p.free[p.frees]
	case p.made < buffers:
		p.made++
		c.buf = &buffer{data: make([]byte, bufferBytes)}
	case Ending(c.stop.Load()) != Completed:
		// It ends before it looks for its buffer.
	case p.waiting >= maxHeld:
		p.mu.Unlock()
		c.ctl.counters.busy.Add(1)
		c.refuse(StatusTaskSetFull)
		return false
	default:
		p.waiting++
		c.link = nil
		if p.head == nil {
			p.head = c
		} else {
			p.tail.link = c
		}
		p.tail = c
		p.mu.Unlock()
		return false
	}
	p.mu.Unlock()
	return true
}

// put takes a buffer back and starts commands that waited for one. One goroutine
// does that at a time, so that commands that complete at once do not nest.
func (p *pool) put(b *buffer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free[p.frees] = b
	p.frees++
	if p.starting {
		return
	}
	p.starting = true
	for p.head != nil && p.frees > 0 {
		c := p.head
		p.unlink(c)
		p.frees--
		c.buf = p.free[p.frees]
		p.mu.Unlock()
		c.admit()
		p.mu.Lock()
	}
	p.starting = false
}

// remove takes a command that waits out of the queue and tells whether it did.
func (p *pool) remove(c *Command) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unlink(c)
}

func (p *pool) unlink(c *Command) bool {
	var before *Command
	for e := p.head; e != nil; before, e = e, e.link {
		if e != c {
			continue
		}
		if before == nil {
			p.head = e.link
		} else {
			before.link = e.link
		}
		if p.tail == e {
			p.tail = before
		}
		c.link = nil
		p.waiting--
		return true
	}
	return false
}
