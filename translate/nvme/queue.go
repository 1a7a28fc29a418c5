package nvme

import (
	"math/bits"
	"sync"

	"keel/hcl/pci"
	"keel/translate/blk"
	"keel/translate/meter"
)

// queue is an I/O queue pair.
type queue struct {
	c      *Controller
	index  int // among the controller's pairs
	limits limits
	lists  pci.Buffer // of the slots, limits.list bytes each
	ids    identifiers
	count  counters

	// reaping is held by who takes completions; it is taken before mu. It guards
	// batch, and which slots are reaped.
	reaping sync.Mutex
	batch   [32]reaped
	polls   poller

	mu          sync.Mutex
	ring        ring
	slots       []slot
	free        []uint16
	pool        pool
	first, last *lane // with work
	live        bool  // the controller takes commands
	bogus       int   // completions that were wrong since the last reset
	fail        error // with which requests end, nil as long as there is hope
	// issued mirrors how many commands are under way, for those without the lock.
	issued meter.Gauge
}

// reaped is a command that completed.
type reaped struct {
	slot uint16
	err  error
}

// maxBogus is how many wrong completions a queue takes before the controller
// counts as broken.
const maxBogus = 16

// newQueue allocates a queue pair of depth entries.
func newQueue(c *Controller, index, depth int, l limits, bounce int) (*queue, error) {
	q := &queue{c: c, index: index, limits: l, ids: identifiersOf(depth)}
	var err error
	if q.ring, err = newRing(c.f, c.regs, c.caps, index+1, depth); err != nil {
		return nil, err
	}
	if q.lists, err = allocate(c.f, depth*l.list); err != nil {
		return nil, err
	}
	if q.pool, err = newPool(c.f, bounce); err != nil {
		return nil, err
	}
	// A ring with one entry less than it has is full.
	q.slots = make([]slot, depth-1)
	q.free = make([]uint16, 0, depth-1)
	for i := range q.slots {
		q.slots[i].pages = noPage
		q.free = append(q.free, uint16(len(q.slots)-1-i))
	}
	return q, nil
}

// listSize returns how long a slot's list must be for commands of so many bytes:
// one entry a page, at least the four ranges that make discards worth it, in a
// size of which none crosses a page.
func listSize(transfer int) int {
	n := max(transfer/pageSize*addressSize, 256)
	return min(1<<bits.Len(uint(n-1)), pageSize)
}

// list returns the memory of a slot's list.
func (q *queue) list(number int) pci.Buffer {
	at := number * q.limits.list
	return pci.Buffer{Bytes: q.lists.Bytes[at : at+q.limits.list], DMA: q.lists.DMA + uint64(at)}
}

// submit queues a request of a lane and issues what can be.
func (q *queue) submit(l *lane, r *blk.Request) {
	q.mu.Lock()
	if err := q.fail; err != nil {
		q.mu.Unlock()
		r.Complete(err)
		return
	}
	l.push(r)
	q.activate(l)
	ended := q.pump()
	if q.live && q.first != nil {
		q.count.full.Add(1)
	}
	q.mu.Unlock()
	end(&ended)
}

// end completes requests whose Err was set.
// Preconditions: the caller holds no lock.
func end(list *blk.List) {
	for r := list.Pop(); r != nil; r = list.Pop() {
		r.Complete(r.Err)
	}
}

// activate puts a lane into the list of those with work.
func (q *queue) activate(l *lane) {
	if l.active {
		return
	}
	l.active, l.next = true, nil
	if q.first == nil {
		q.first = l
	} else {
		q.last.next = l
	}
	q.last = l
}

// pump issues commands, a lane at a time, until there is no work, no slot or no
// page left, then tells the controller once. It returns requests that ended
// without a command.
func (q *queue) pump() (ended blk.List) {
	for q.live && q.first != nil {
		l := q.first
		if l.cursor.r == nil {
			r := l.pop()
			if r != nil && l.n.gone.Load() {
				r.Err = blk.ErrRemoved
				ended.Push(r)
				continue
			}
			if r != nil {
				l.begin(q, r)
			}
		}
		if l.cursor.r != nil {
			// Nobody overtakes who waits for pages, or a large request would wait for
			// as long as there are small ones.
			if len(q.free) == 0 || l.cursor.pages(l.n.blockSize) > q.pool.left {
				break
			}
			q.issueNext(l)
		}
		// The next lane has its turn: a busy namespace does not starve the others.
		q.first, l.next, l.active = l.next, nil, false
		if l.cursor.r != nil || l.queued > 0 {
			q.activate(l)
		}
	}
	q.ring.tell()
	return ended
}

// issueNext makes a command of the next part of a lane's request.
// Preconditions: there are a slot and the pages for it.
func (q *queue) issueNext(l *lane) {
	number := int(q.free[len(q.free)-1])
	q.free = q.free[:len(q.free)-1]
	s := &q.slots[number]
	*s = slot{r: l.cursor.r, n: l.n, generation: s.generation, pages: noPage}
	built := l.build(q, s, number)
	if l.cursor.parts--; l.cursor.parts == 0 {
		l.cursor = cursor{}
	}
	if !built {
		// The plan and its execution disagree: only a request whose segments
		// change under way gets here.
		q.c.broken.Add(1)
		s.cancel, s.state, s.expire = true, slotDelayed, 0
		q.c.wake()
		return
	}
	q.count.submitted(s.command.opcode())
	q.issue(number)
}

// issue puts the command of a slot into the ring.
func (q *queue) issue(number int) {
	s := &q.slots[number]
	if s.state != slotIssued {
		q.issued.Up()
	}
	s.state, s.late, s.aborts, s.abortAt = slotIssued, false, 0, 0
	s.expire, s.since = q.c.tick.Load()+q.c.patience, meter.Now()
	q.ids.renew(s, number)
	s.tap = q.c.tap.Load()
	if s.tap != nil {
		q.captureStart(s)
	}
	q.ring.push(&s.command)
}

// release gives the slots of the batch back.
func (q *queue) release(batch []reaped) {
	for _, b := range batch {
		s := &q.slots[b.slot]
		if s.pages != noPage {
			q.pool.give(s.pages)
		}
		*s = slot{generation: s.generation, pages: noPage}
		q.free = append(q.free, b.slot)
	}
}
