package scsi

import (
	"sync"
	"sync/atomic"
)

// maxHeld bounds the commands of a logical unit that wait for COMPARE AND WRITE,
// or for a buffer. Those that come later get TASK SET FULL.
const maxHeld = 64

// gate orders the commands of a logical unit around COMPARE AND WRITE, which no
// other command may see half done (SBC-3, 5.2). While there is none, entering is
// one atomic load.
//
// It keeps a queue of what waits and of COMPARE AND WRITE that runs. A command
// says that it runs before it looks whether the queue is empty; COMPARE AND WRITE
// joins the queue before it looks for commands that run. One of two sees the other.
type gate struct {
	queued atomic.Int32

	mu         sync.Mutex
	head, tail *Command
	starting   bool // somebody is in wake
}

// overlaps tells whether two commands touch a block that both use.
func (c *Command) overlaps(o *Command) bool { return c.first < o.end && o.first < c.end }

// enter lets a command run, and says true, or keeps it.
func (g *gate) enter(c *Command) bool {
	c.running.Store(!c.exclusive)
	if !c.exclusive && g.queued.Load() == 0 {
		return true
	}
	g.mu.Lock()
	full := g.queued.Load() >= maxHeld
	g.push(c)
	switch {
	case Ending(c.stop.Load()) != Completed, g.mayRun(c):
		c.running.Store(true)
		if !c.exclusive {
			g.unlink(c)
		}
		g.mu.Unlock()
		return true
	case full:
		g.unlink(c)
		c.exclusive = false
		g.mu.Unlock()
		c.ctl.counters.busy.Add(1)
		c.refuse(StatusTaskSetFull)
		return false
	}
	c.running.Store(false)
	g.mu.Unlock()
	g.wake() // what waited for this one need not any more
	return false
}

// mayRun tells whether nothing stands in the way of a queued command.
// Preconditions: locked.
func (g *gate) mayRun(c *Command) bool {
	for e := g.head; e != nil && e != c; e = e.link {
		if (c.exclusive || e.exclusive) && c.overlaps(e) {
			return false
		}
	}
	return !c.exclusive || !c.u.tasks.conflicts(c)
}

// wake starts what may run now. One goroutine does that at a time, so that
// commands that complete at once do not nest.
func (g *gate) wake() {
	if g.queued.Load() == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.starting {
		return
	}
	g.starting = true
	for c := g.ready(); c != nil; c = g.ready() {
		c.running.Store(true)
		if !c.exclusive {
			g.unlink(c)
		}
		g.mu.Unlock()
		c.drive()
		g.mu.Lock()
	}
	g.starting = false
}

// ready returns a queued command that may run. Preconditions: locked.
func (g *gate) ready() *Command {
	for c := g.head; c != nil; c = c.link {
		if !c.running.Load() && g.mayRun(c) {
			return c
		}
	}
	return nil
}

// leave takes COMPARE AND WRITE out of the queue, if it is there.
func (g *gate) leave(c *Command) {
	g.mu.Lock()
	g.unlink(c)
	g.mu.Unlock()
}

// remove takes a command that waits out of the queue and tells whether it did.
func (g *gate) remove(c *Command) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !c.running.Load() && g.unlink(c)
}

func (g *gate) push(c *Command) {
	g.queued.Add(1)
	c.link = nil
	if g.head == nil {
		g.head = c
	} else {
		g.tail.link = c
	}
	g.tail = c
}

func (g *gate) unlink(c *Command) bool {
	var before *Command
	for e := g.head; e != nil; before, e = e, e.link {
		if e != c {
			continue
		}
		if before == nil {
			g.head = e.link
		} else {
			before.link = e.link
		}
		if g.tail == e {
			g.tail = before
		}
		c.link = nil
		g.queued.Add(-1)
		return true
	}
	return false
}
