package nvme

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"keel/hcl/pci"
)

// adminDepth is the number of entries of the admin queues.
const adminDepth = 16

// maxAborts and maxEvents bound the commands of their kind that are under way, so
// that the admin queue has room for others.
const (
	maxAborts = 4
	maxEvents = 3
)

// adminKind tells what becomes of a completion.
type adminKind uint8

const (
	adminFree  adminKind = iota
	adminCall            // somebody waits
	adminLeft            // nobody waits any more
	adminAsync           // an Abort
	adminEvent           // an Asynchronous Event Request
)

// adminSlot is the place of one admin command and of its page of data.
type adminSlot struct {
	kind    adminKind
	command entry
	answer  completion
	err     error
	done    chan struct{}
}

// adminQueue is the admin queue pair. Its memory is never anybody else's, so that
// a command that was given up does no harm.
type adminQueue struct {
	c     *Controller
	ids   identifiers
	data  pci.Buffer
	count counters

	reaping sync.Mutex // taken before mu

	mu     sync.Mutex
	ring   ring
	slots  []adminSlot
	names  []slot // generations of the slots
	live   bool
	bogus  int
	aborts int // under way
	events []uint32
}

// newAdminQueue allocates the admin queue pair.
func newAdminQueue(c *Controller) (*adminQueue, error) {
	depth := min(adminDepth, c.caps.entries())
	a := &adminQueue{c: c, ids: identifiersOf(depth)}
	var err error
	if a.ring, err = newRing(c.f, c.regs, c.caps, 0, depth); err != nil {
		return nil, err
	}
	if a.data, err = allocate(c.f, depth*pageSize); err != nil {
		return nil, err
	}
	a.slots = make([]adminSlot, depth-1)
	a.names = make([]slot, depth-1)
	for i := range a.slots {
		a.slots[i].done = make(chan struct{}, 1)
	}
	return a, nil
}

// start puts a command into the queue. It returns its slot, or false when the
// queue is full or stands still.
func (a *adminQueue) start(kind adminKind, e *entry) (int, bool) {
	number := slices.IndexFunc(a.slots, func(s adminSlot) bool { return s.kind == adminFree })
	if !a.live || number < 0 {
		return 0, false
	}
	s := &a.slots[number]
	s.kind, s.command, s.err = kind, *e, nil
	switch e.opcode() {
	case adminIdentify, adminGetLog:
		s.command.prp(a.data.DMA+uint64(number)*pageSize, 0)
	}
	a.names[number].command = s.command
	a.ids.renew(&a.names[number], number)
	s.command = a.names[number].command
	a.count.admin.Add(1)
	a.ring.push(&s.command)
	a.ring.tell()
	return number, true
}

// call runs a command and returns its result and a copy of its data. It waits at
// most for a time; a controller that does not answer in it is reset.
func (a *adminQueue) call(e *entry, patience time.Duration) (uint32, []byte, error) {
	a.mu.Lock()
	number, ok := a.start(adminCall, e)
	a.mu.Unlock()
	if !ok {
		return 0, nil, fmt.Errorf("%w: admin queue is full or stopped", errNoAnswer)
	}
	s := &a.slots[number]
	timer := time.NewTimer(patience)
	defer timer.Stop()
	lost := fmt.Errorf("%w: admin command %#02x", errNoAnswer, e.opcode())
	select {
	case <-s.done:
		return a.answer(number, e)
	case <-a.c.f.Gone():
		lost = errRemoved
	case <-timer.C:
		// The interrupt may be lost rather than the answer.
		a.reap()
	}
	a.mu.Lock()
	select {
	case <-s.done:
		a.mu.Unlock()
		return a.answer(number, e)
	default:
		s.kind = adminLeft
		a.mu.Unlock()
		return 0, nil, lost
	}
}

// answer takes the answer of a command out of its slot and frees it.
func (a *adminQueue) answer(number int, e *entry) (uint32, []byte, error) {
	page := slices.Clone(a.data.Bytes[number*pageSize:][:pageSize])
	s := &a.slots[number]
	a.mu.Lock()
	answer, err := s.answer, s.err
	s.kind = adminFree
	a.mu.Unlock()
	switch {
	case err != nil:
		return 0, nil, err
	case answer.status.code() != 0:
		return 0, nil, fmt.Errorf("admin command %#02x: %w", e.opcode(), answer.status)
	}
	return answer.result, page, nil
}

// abort asks for the end of a command without waiting for the answer. It returns
// false when the controller takes no more of that now.
func (a *adminQueue) abort(queue int, id uint16) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.aborts >= min(a.c.aborter, maxAborts) {
		return false
	}
	var e entry
	e.start(adminAbort, 0)
	e.dword(10, uint32(id)<<16|uint32(queue))
	if _, ok := a.start(adminAsync, &e); !ok {
		return false
	}
	a.aborts++
	a.c.aborts.Add(1)
	return true
}

// listen keeps Asynchronous Event Requests under way and returns the events that
// came.
func (a *adminQueue) listen(n int) []uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	events := a.events
	a.events = nil
	for _, s := range a.slots {
		if s.kind == adminEvent {
			n--
		}
	}
	var e entry
	for e.start(adminAsyncEvent, 0); n > 0; n-- {
		if _, ok := a.start(adminEvent, &e); !ok {
			break
		}
	}
	return events
}

// reap takes the completions that there are.
func (a *adminQueue) reap() {
	a.reaping.Lock()
	defer a.reaping.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := 0
	for a.live && seen < a.ring.size {
		e, ok := a.ring.pop()
		if !ok {
			break
		}
		seen++
		if !a.ring.took(e.head) {
			a.count.badHeads.Add(1)
			a.wrong("impossible submission queue heads")
		}
		number := a.ids.number(e.id)
		if e.queue != 0 || number >= len(a.slots) || a.slots[number].kind == adminFree ||
			a.slots[number].command.id() != e.id {
			a.count.spurious.Add(1)
			a.wrong("completions of no command")
			continue
		}
		if e.status.code() != 0 {
			a.count.errors.Add(1)
		}
		a.complete(&a.slots[number], e)
	}
	if seen > 0 {
		a.ring.acknowledge()
	}
}

// complete ends the command of a slot.
func (a *adminQueue) complete(s *adminSlot, e completion) {
	switch s.kind {
	case adminCall:
		// The slot is free when the caller has copied the data. Until then it has
		// no identifier that another completion could have.
		s.answer = e
		s.command.identify(0xffff)
		s.done <- struct{}{}
		return
	case adminAsync:
		a.aborts--
	case adminEvent:
		// A request that was refused would be refused again: then there are none
		// until the next reset.
		if e.status.code() != 0 {
			s.command.identify(0xffff)
			return
		}
		a.events = append(a.events, e.result)
		a.c.wakeScanner()
	case adminFree, adminLeft:
	}
	s.kind = adminFree
}

// wrong counts a completion that breaks the rules.
func (a *adminQueue) wrong(what string) {
	if a.bogus++; a.bogus == maxBogus {
		a.live = false
		a.c.wantReset(what)
	}
}

// stop ends every command with an error, and takes no more.
// Preconditions: the controller does not use the queues any more.
func (a *adminQueue) stop(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.live, a.bogus, a.aborts, a.events = false, 0, 0, nil
	for i := range a.slots {
		s := &a.slots[i]
		if s.kind == adminCall && s.command.id() != 0xffff {
			s.err = err
			s.command.identify(0xffff)
			s.done <- struct{}{}
		} else if s.kind != adminCall {
			s.kind = adminFree
		}
	}
	a.ring.clear()
}

// open takes commands again.
func (a *adminQueue) open() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.live = true
}

// call runs an admin command that must have an answer by a time. A controller that
// does not answer is reset.
func (c *Controller) call(e *entry, by time.Time) (uint32, []byte, error) {
	result, data, err := c.admin.call(e, min(c.config.AdminTimeout, time.Until(by)))
	if errors.Is(err, errNoAnswer) {
		c.wantReset("admin command without an answer")
	}
	return result, data, err
}

// identify reads an Identify data structure.
func (c *Controller) identify(cns, nsid uint32, by time.Time) ([]byte, error) {
	var e entry
	e.start(adminIdentify, nsid)
	e.dword(10, cns)
	_, data, err := c.call(&e, by)
	return data, err
}
