package storvsp

import (
	"encoding/binary"
	"errors"
	"sync"

	"keel/translate/blk"
	"keel/translate/scsi"
	"keel/translate/vmbus"
)

// inlineSegments are those that a command has for itself: enough for small
// requests, and for large ones of consecutive pages. Long lists are shared.
const (
	inlineSegments = 9
	longLists      = 64 // of one channel
)

// command is a packet that is being worked on, and the place of its answer.
type command struct {
	queue       *queue
	next        *command // of the free or the waiting list
	transaction uint64
	size        int // bytes of the answer
	length      uint32
	scsi        scsi.Command
	task        scsi.Task
	data        []blk.Segment
	long        []blk.Segment // a shared list that the command has
	inline      [inlineSegments]blk.Segment
	answer      [packetSize]byte
}

// queue is one channel of the controller. Commands are made as they are needed, up
// to the depth, and then used again and again; so are the long lists. A packet that
// finds none stays in the ring until one is given back. Neither lock is held while
// the target or the server's lock is called for.
type queue struct {
	ctl  *Controller
	hint int // queue of the disk

	mu      sync.Mutex     // of the lists of what is free
	channel *vmbus.Channel // both locks are held when it changes
	free    *command
	made    int
	lists   [][]blk.Segment
	lent    int
	active  int  // commands under way, and one for the open channel
	stalled bool // a packet waits in the ring
	closing bool

	send   sync.Mutex // of what goes to the guest, in order
	first  *command   // answers that did not fit
	last   *command
	rescan bool
}

var (
	_ vmbus.Device = (*queue)(nil)
	_ vmbus.Poller = (*queue)(nil)
)

func (q *queue) init(ct *Controller) { q.ctl = ct }

// Open begins to serve a channel.
func (q *queue) Open(c *vmbus.Channel) error {
	q.send.Lock()
	defer q.send.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.channel, q.active, q.stalled, q.closing = c, 1, false, false
	q.hint = max(c.VP(), 0)
	return nil
}

// Receive takes a packet.
func (q *queue) Receive(_ *vmbus.Channel, p *vmbus.Packet) bool {
	if !p.Completion() || len(p.Payload) < oldPacketSize {
		// Nothing that a driver sends; there is nobody to answer.
		q.ctl.n.badPackets.Add(1)
		return true
	}
	c := q.get()
	if c == nil {
		return false
	}
	c.transaction, c.size = p.Transaction, min(len(p.Payload), packetSize)
	c.answer = [packetSize]byte{}
	if q.handle(c, p) {
		return true
	}
	q.unget(c)
	return false
}

// Polls tells that commands are under way at whose end the ring is looked at.
func (q *queue) Polls() bool {
	depth := q.ctl.PollDepth
	if depth == 0 {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.active > depth // one is the channel itself
}

// Writable sends what did not fit.
func (q *queue) Writable(*vmbus.Channel) { q.flush() }

// Close ends the channel once all that is under way has ended. With the first
// channel the guest's connection to the target is lost: the target aborts what is
// left on any channel. The end of that is of no interest, since each command ends
// by itself.
func (q *queue) Close(*vmbus.Channel) {
	q.mu.Lock()
	q.closing = true
	q.mu.Unlock()
	first := q == &q.ctl.main
	if first {
		q.ctl.Target.Manage(&scsi.Task{Function: scsi.NexusReset, Initiator: q.ctl.Initiator, Done: func(*scsi.Task) {}})
	}
	// Nobody will read the answers that wait for room.
	q.send.Lock()
	waiting := q.first
	q.first, q.last, q.rescan = nil, nil, false
	q.send.Unlock()
	for waiting != nil {
		c := waiting
		waiting = c.next
		q.ctl.n.dropped.Add(1)
		q.put(c)
	}
	if first {
		q.ctl.closed()
	}
	q.leave()
}

// get takes a command, or returns nil and remembers that a packet waits.
func (q *queue) get() *command {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.free
	switch {
	case c != nil:
		q.free = c.next
	case q.made < q.ctl.Depth:
		// The functions are made once in the life of the command.
		q.made++
		c = &command{queue: q}
		c.scsi.Done = c.done
		c.task.Done = func(*scsi.Task) { q.complete(c, ntSuccess) }
	default:
		q.stalled = true
		q.ctl.n.stalls.Add(1)
		return nil
	}
	q.active++
	return c
}

// unget gives a command back whose packet waits in the ring. Unlike put it wakes
// nobody: nothing has changed for the packet.
func (q *queue) unget(c *command) {
	clear(c.data)
	c.data = nil
	q.mu.Lock()
	defer q.mu.Unlock()
	c.next, q.free = q.free, c
	q.active--
}

// put gives a command back.
func (q *queue) put(c *command) {
	clear(c.data) // keeps no guest memory alive
	q.mu.Lock()
	c.data = nil
	if c.long != nil {
		q.lists = append(q.lists, c.long)
		c.long = nil
	}
	c.next, q.free = q.free, c
	q.mu.Unlock()
	q.leave()
}

// leave ends one of the things that keep the channel in use.
func (q *queue) leave() {
	q.mu.Lock()
	q.active--
	closed := q.closing && q.active == 0
	resume := q.stalled && !q.closing
	q.stalled = false
	channel := q.channel
	q.mu.Unlock()
	switch {
	case closed:
		channel.Closed()
	case resume:
		channel.Resume()
	default:
		// The guest may have written packets without a signal, see Polls.
		channel.Poll()
	}
}

// grow moves a command's segments to a long list. It returns false when all are
// lent, and remembers that a packet waits.
func (q *queue) grow(c *command) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch n := len(q.lists); {
	case n > 0:
		c.long = q.lists[n-1]
		q.lists = q.lists[:n-1]
	case q.lent < longLists:
		q.lent++
		c.long = make([]blk.Segment, 0, q.ctl.largestList())
	default:
		q.stalled = true
		q.ctl.n.stalls.Add(1)
		return false
	}
	c.data = append(c.long[:0], c.data...)
	return true
}

// complete answers a packet. The answer has as many bytes as the packet had:
// drivers check that.
func (q *queue) complete(c *command, status uint32) {
	binary.LittleEndian.PutUint32(c.answer[atOperation:], opCompleteIO)
	binary.LittleEndian.PutUint32(c.answer[atStatus:], status)
	q.send.Lock()
	// Answers keep their order: none overtakes one that waits.
	sent := q.first == nil && q.deliver(c)
	if !sent {
		q.ctl.n.fullRings.Add(1)
		c.next = nil
		if q.first == nil {
			q.first = c
		} else {
			q.last.next = c
		}
		q.last = c
	}
	q.send.Unlock()
	if sent {
		q.put(c)
	}
}

// deliver writes an answer. It returns false when there is no room.
func (q *queue) deliver(c *command) bool {
	err := q.channel.Complete(c.transaction, c.answer[:c.size])
	switch {
	case err == nil:
		q.ctl.n.completed.Add(1)
	case errors.Is(err, vmbus.ErrFull):
		return false
	default:
		// The ring is broken or closed: there will never be room.
		q.ctl.n.dropped.Add(1)
	}
	return true
}

// flush sends what waits, as far as it fits.
func (q *queue) flush() {
	var sent *command
	q.send.Lock()
	for q.first != nil && q.deliver(q.first) {
		c := q.first
		q.first = c.next
		c.next, sent = sent, c
	}
	if q.first == nil && q.rescan {
		q.post()
	}
	q.send.Unlock()
	for sent != nil {
		c := sent
		sent = c.next
		q.put(c)
	}
}

// enumerate tells the guest to look at its disks.
func (q *queue) enumerate() {
	q.send.Lock()
	defer q.send.Unlock()
	q.rescan = true
	if q.first == nil {
		q.post()
	}
}

// post sends ENUMERATE BUS. Preconditions: the send lock is held.
func (q *queue) post() {
	var m [packetSize]byte
	binary.LittleEndian.PutUint32(m[atOperation:], opEnumerateBus)
	if err := q.channel.Post(m[:]); !errors.Is(err, vmbus.ErrFull) {
		q.rescan = false
		q.ctl.n.rescans.Add(1)
	}
}
