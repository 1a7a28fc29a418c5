package scsi

import "sync"

// shards of a task set: commands of different queues do not share a lock.
const shards = 16

// taskSet holds the commands of a logical unit that are under way.
type taskSet struct {
	shards [shards]shard
}

type shard struct {
	mu     sync.Mutex
	head   *Command // linked by next and prev
	closed bool     // the logical unit is gone
	_      [40]byte // keeps neighbors off the cache line
}

func (t *taskSet) of(c *Command) *shard { return &t.shards[uint(c.Queue)%shards] }

// add lists a command, unless the logical unit is gone.
func (t *taskSet) add(c *Command) bool {
	s := t.of(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	c.listed, c.pins, c.prev, c.next = true, 0, nil, s.head
	if s.head != nil {
		s.head.prev = c
	}
	s.head = c
	return true
}

// end takes a command out of the set, unless somebody is about to cancel it.
func (t *taskSet) end(c *Command) bool {
	s := t.of(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	c.ended = true
	if c.pins > 0 {
		return false
	}
	s.unlink(c)
	return true
}

func (s *shard) unlink(c *Command) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		s.head = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
}

// unpin lets go of a command that was to be canceled.
func (t *taskSet) unpin(c *Command) {
	s := t.of(c)
	s.mu.Lock()
	c.pins--
	last := c.pins == 0 && c.ended
	if last {
		s.unlink(c)
	}
	s.mu.Unlock()
	if last {
		c.deliver()
	}
}

// close refuses further commands.
func (t *taskSet) close() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
	}
}

// conflicts tells whether a command runs that touches blocks of c.
func (t *taskSet) conflicts(c *Command) bool {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for o := s.head; o != nil; o = o.next {
			if o != c && o.running.Load() && o.overlaps(c) {
				s.mu.Unlock()
				return true
			}
		}
		s.mu.Unlock()
	}
	return false
}

// count returns how many commands match.
func (t *taskSet) count(match func(*Command) bool) int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for c := s.head; c != nil; c = c.next {
			if match(c) {
				n++
			}
		}
		s.mu.Unlock()
	}
	return n
}

// abort asks the commands that match to end, and has waiter, which may be nil,
// wait for them. It returns the number of commands.
func (u *unit) abort(why Ending, waiter *Task, match func(*Command) bool) int {
	// A command that is found is pinned: it cannot end, and so become another one,
	// before the disk was asked to cancel it. No lock is held then, since the disk may
	// complete the request on the spot.
	var found []*Command
	for i := range u.tasks.shards {
		s := &u.tasks.shards[i]
		s.mu.Lock()
		for c := s.head; c != nil; c = c.next {
			if !match(c) {
				continue
			}
			if waiter != nil {
				waiter.left.Add(1)
				c.waiters = append(c.waiters, waiter)
			}
			if c.ended {
				continue // another one is about to give it back
			}
			c.stop.CompareAndSwap(uint32(Completed), uint32(why))
			c.pins++
			found = append(found, c)
		}
		s.mu.Unlock()
	}
	for _, c := range found {
		switch {
		case u.ctl.pool.remove(c), u.gate.remove(c):
			c.abandon(Ending(c.stop.Load()))
		case u.disk != nil:
			// What is between two requests finds out by itself.
			u.disk.Cancel(&c.req)
		}
		u.tasks.unpin(c)
	}
	return len(found)
}
