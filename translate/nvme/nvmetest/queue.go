package nvmetest

import (
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"

	"keel/hcl/sys"
)

const (
	entrySize  = 64
	resultSize = 16
	phaseTag   = 1 << 16
	maxQueues  = 128
)

// submission is a submission queue.
type submission struct {
	id         uint16
	base       uint64
	size       int
	head, tail int
	cq         *completionQueue
}

// completionQueue is a completion queue.
type completionQueue struct {
	id         uint16
	base       uint64
	size       int
	head, tail int
	phase      uint32
	vector     int
	interrupts bool
}

// bell is a write to a doorbell.
func (c *Controller) bell(offset int, value uint32) {
	stride := 4 << (c.capabilities() >> 32 & 0xf)
	id, rest := uint16(offset/(2*stride)), offset%(2*stride)
	if rest == stride {
		if q := c.cqs[id]; q == nil || int(value) >= q.size {
			c.t.Errorf("completion doorbell %d: %d", id, value)
		} else {
			q.head = int(value)
		}
		return
	}
	q := c.sqs[id]
	if q == nil || int(value) >= q.size {
		if c.csts&cstsReady != 0 {
			c.t.Errorf("submission doorbell %d: %d", id, value)
		}
		return
	}
	q.tail = int(value)
	if id != 0 {
		c.counts.Doorbells++
	}
	if c.config.Sync {
		c.run()
		return
	}
	select {
	case c.work <- struct{}{}:
	default:
	}
}

// engine runs commands until the controller is closed.
func (c *Controller) engine() {
	for {
		select {
		case <-c.done:
			return
		case <-c.work:
			c.mu.Lock()
			c.run()
			c.mu.Unlock()
		}
	}
}

// run runs the commands that there are.
func (c *Controller) run() {
	for id := range uint16(maxQueues) {
		for q := c.sqs[id]; q != nil && q.head != q.tail; q = c.sqs[id] {
			if !c.step(q) {
				break
			}
		}
	}
}

// step takes one command out of a queue.
func (c *Controller) step(q *submission) bool {
	if c.csts&cstsReady == 0 || c.csts&cstsFatal != 0 || c.closed {
		return false
	}
	b := c.reach(q.base+uint64(q.head)*entrySize, entrySize)
	if b == nil {
		return false
	}
	var e [entrySize]byte
	copy(e[:], b)
	q.head = (q.head + 1) % q.size
	cmd := Command{
		Queue:  q.id,
		Opcode: e[0],
		ID:     binary.LittleEndian.Uint16(e[2:]),
		NSID:   binary.LittleEndian.Uint32(e[4:]),
		LBA:    binary.LittleEndian.Uint64(e[40:]),
		DW10:   binary.LittleEndian.Uint32(e[40:]),
		DW11:   binary.LittleEndian.Uint32(e[44:]),
		DW12:   binary.LittleEndian.Uint32(e[48:]),
	}
	cmd.Blocks = cmd.DW12&0xffff + 1
	if q.id != 0 {
		c.counts.Commands++
		c.counts.Opcodes[cmd.Opcode]++
	}
	var a Action
	if c.faults.Hook != nil {
		a = c.faults.Hook(cmd)
	}
	c.extra = c.extra || a.Status != 0
	if !a.Drop && a.Delay == 0 {
		c.finish(q, &cmd, &e, a)
		return true
	}
	h := &held{q, cmd, e, a}
	c.hung[[2]uint16{q.id, cmd.ID}] = h
	if !a.Drop {
		c.later(h)
	}
	return true
}

// later runs a command after its delay, unless there was a reset in between.
func (c *Controller) later(h *held) {
	c.ended.Go(func() {
		select {
		case <-c.done:
			return
		case <-time.After(h.action.Delay):
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		key := [2]uint16{h.sq.id, h.command.ID}
		if !c.closed && c.hung[key] == h {
			delete(c.hung, key)
			c.finish(h.sq, &h.command, &h.raw, h.action)
		}
	})
}

// MoveLate moves the data of commands that were under way when the driver disabled a
// controller that did not stop (StuckReady), as such a controller may at any time.
func (c *Controller) MoveLate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.late {
		if h.sq.id != 0 {
			c.execute(h.sq, &h.command, &h.raw, h.action)
		}
	}
}

// finish executes a command and completes it.
func (c *Controller) finish(q *submission, cmd *Command, e *[entrySize]byte, a Action) {
	status, result := a.Status, uint32(0)
	if status == 0 {
		var answered bool
		if status, result, answered = c.execute(q, cmd, e, a); !answered {
			return
		}
	}
	if a.Result != nil {
		result = *a.Result
	}
	c.complete(q, cmd.ID, status, result, a)
	if a.Twice {
		c.extra = true
		c.complete(q, cmd.ID, status, result, a)
	}
}

// complete writes a completion.
func (c *Controller) complete(q *submission, id, status uint16, result uint32, a Action) {
	head, queue := uint16(q.head), q.id
	for _, o := range []struct{ to, from *uint16 }{{&head, a.Head}, {&queue, a.Queue}, {&id, a.ID}} {
		if o.from != nil {
			*o.to = *o.from
			c.extra = true
		}
	}
	c.post(q.cq, [4]uint32{result, 0, uint32(head) | uint32(queue)<<16, uint32(id) | uint32(status)<<17})
}

// post puts an entry into a completion queue. Its last word is written last.
func (c *Controller) post(q *completionQueue, e [4]uint32) {
	if (q.tail+1)%q.size == q.head {
		if !c.extra {
			c.t.Errorf("completion queue %d is full", q.id)
		}
		return
	}
	b := c.reach(q.base+uint64(q.tail)*resultSize, resultSize)
	if b == nil {
		return
	}
	e[3] |= q.phase
	w := sys.Words(b)
	for i, v := range e {
		atomic.StoreUint32(&w[i], v)
	}
	if q.tail++; q.tail == q.size {
		q.tail = 0
		q.phase ^= phaseTag
	}
	if q.interrupts && !c.faults.NoInterrupts && q.vector < len(c.interrupts) {
		select {
		case c.interrupts[q.vector].pulse <- struct{}{}:
		default:
		}
	}
}

// Inject puts completions of the test's own making into the queue pair with a
// number: each is a command identifier, a queue, and a status field.
func (c *Controller) Inject(queue uint16, made ...[3]uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.sqs[queue]
	if q == nil {
		return
	}
	c.extra = true
	for _, m := range made {
		c.post(q.cq, [4]uint32{0, 0, uint32(q.head) | uint32(m[1])<<16, uint32(m[0]) | uint32(m[2])<<17})
	}
}

// Hung returns how many commands have no answer yet.
func (c *Controller) Hung() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.hung)
}

// Revive answers the commands that were dropped, oldest identifiers first.
func (c *Controller) Revive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var keys [][2]uint16
	for key := range c.hung {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b [2]uint16) int { return int(a[1]) - int(b[1]) })
	for _, key := range keys {
		c.complete(c.hung[key].sq, key[1], 0, 0, Action{})
		delete(c.hung, key)
	}
}
