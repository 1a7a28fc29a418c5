package nvme

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"keel/hcl/pci"
	"keel/translate/blk"
	"keel/translate/meter"
)

// maxReplays is how often a command is tried again that took too long, or that was
// under way when the controller was reset.
const maxReplays = 2

// abortTries is how many Abort commands one command is worth.
const abortTries = 4

// maxRetryDelay bounds the exponent of the ticks between two attempts.
const maxRetryDelay = 4

// reap takes every completion that there is, tells the requests, and issues what
// waited for the room. It returns how many completions it saw.
func (q *queue) reap() int {
	q.reaping.Lock()
	defer q.reaping.Unlock()
	for total, n := 0, 0; ; {
		// One turn of the lock gives back the slots of the last batch, fills them
		// with what waited, and takes the next batch. Data is copied and requests
		// are told without the lock: Done may submit.
		q.mu.Lock()
		q.release(q.batch[:n])
		ended := q.pump()
		var seen int
		n, seen = q.collect()
		q.mu.Unlock()
		end(&ended)
		q.tell(n)
		if total += seen; seen == 0 {
			return total
		}
	}
}

// collect fills the batch with commands that completed. It rings each doorbell once.
func (q *queue) collect() (n, seen int) {
	var now time.Duration // of the whole batch
	for q.live && n < len(q.batch) && seen < q.ring.size {
		e, ok := q.ring.pop()
		if !ok {
			break
		}
		seen++
		if !q.ring.took(e.head) {
			q.count.badHeads.Add(1)
			q.wrong("impossible submission queue heads")
		}
		number := q.ids.number(e.id)
		if int(e.queue) != q.ring.id || number >= len(q.slots) ||
			q.slots[number].state != slotIssued || q.slots[number].command.id() != e.id {
			q.count.spurious.Add(1)
			q.wrong("completions of no command")
			continue
		}
		if now == 0 {
			now = meter.Now()
		}
		q.issued.Down()
		q.count.latency.Add(now - q.slots[number].since)
		if q.slots[number].tap != nil {
			q.captureEnd(&q.slots[number], &e, now)
		}
		if again, err := q.judge(number, e.status); !again {
			q.slots[number].state = slotReaped
			q.batch[n] = reaped{uint16(number), err}
			n++
		}
	}
	if seen > 0 {
		q.ring.acknowledge()
		q.ring.tell()
	}
	return n, seen
}

// wrong counts a completion that breaks the rules. After too many the queue stands
// still until the controller was reset.
func (q *queue) wrong(what string) {
	if q.bogus++; q.bogus == maxBogus {
		q.live = false
		q.c.wantReset(what)
	}
}

// judge decides whether a command is tried again, and with what error it ends when
// it is not.
func (q *queue) judge(number int, st status) (again bool, err error) {
	s := &q.slots[number]
	if st.code() == 0 {
		q.count.completed(&s.command, s.n.blockSize)
		return false, nil
	}
	q.count.errors.Add(1)
	if s.cancel {
		return false, fmt.Errorf("%w: %w", blk.ErrAborted, st)
	}
	p, limit := st.patience(), q.c.config.Retries
	if p == once {
		limit = min(limit, 1)
	}
	if s.late {
		s.replays++
	}
	if p == never || s.retries >= limit || s.replays > maxReplays {
		return false, st.err()
	}
	s.retries++
	q.count.retries.Add(1)
	if p == afterWait || s.retries > 1 {
		s.state = slotDelayed
		s.expire = q.c.tick.Load() + 1<<min(s.retries, maxRetryDelay)
		return true, nil
	}
	q.issueAgain(number)
	return true, nil
}

// issueAgain issues a command that is not under way any more.
func (q *queue) issueAgain(number int) {
	q.slots[number].state = slotDelayed
	q.issue(number)
}

// tell finishes the parts of the batch.
// Preconditions: reaping is held, mu is not.
func (q *queue) tell(n int) {
	for _, b := range q.batch[:n] {
		s := &q.slots[b.slot]
		if b.err == nil && s.pages != noPage && s.command.opcode() == cmdRead {
			q.pool.move(s.pages, s.r.Segments, s.at, s.bytes, true)
		}
		s.r.Finish(b.err)
	}
}

// settle ends the commands that pick gives an error, whether the controller has
// them or not.
// Preconditions: reaping is held, mu is not; the controller does not reach their
// memory.
func (q *queue) settle(pick func(s *slot) error) {
	for {
		n := 0
		q.mu.Lock()
		for i := range q.slots {
			s := &q.slots[i]
			if n == len(q.batch) {
				break
			}
			if s.state != slotIssued && s.state != slotDelayed {
				continue
			}
			if err := pick(s); err != nil {
				if s.state == slotIssued {
					q.issued.Down()
				}
				s.state = slotReaped
				q.batch[n] = reaped{uint16(i), err}
				n++
			}
		}
		q.mu.Unlock()
		if n == 0 {
			return
		}
		q.tell(n)
		q.mu.Lock()
		q.release(q.batch[:n])
		q.mu.Unlock()
	}
}

// sweep looks after the commands of a queue at a tick: it issues those whose delay
// is over, sends aborts, and returns true when a command ignored its abort.
func (q *queue) sweep() (hung bool) {
	q.count.missed.Add(uint64(q.reap()))
	q.reaping.Lock()
	defer q.reaping.Unlock()
	q.settle(func(s *slot) error {
		if s.state == slotDelayed && s.cancel {
			return blk.ErrAborted
		}
		return nil
	})
	q.mu.Lock()
	now := q.c.tick.Load()
	for i := range q.slots {
		s := &q.slots[i]
		switch {
		case !q.live:
		case s.state == slotDelayed && s.expire <= now:
			q.issue(i)
		case s.state == slotIssued:
			hung = q.watch(s, now) || hung
		}
	}
	ended := q.pump()
	q.mu.Unlock()
	end(&ended)
	return hung
}

// watch asks the controller to abort a command that takes too long, or that its
// owner wants back.
func (q *queue) watch(s *slot, now uint64) (hung bool) {
	if s.expire <= now {
		if s.late {
			return true
		}
		q.count.timeouts.Add(1)
		s.late, s.expire = true, now+q.c.abortPatience
	}
	// An Abort that overtakes its command is in vain, so one may not be enough.
	if (s.late || s.cancel) && s.aborts < abortTries && s.abortAt <= now && q.c.admin.abort(q.ring.id, s.command.id()) {
		s.aborts++
		s.abortAt = now + 1<<s.aborts
	}
	return false
}

// poller decides how long to spin for the next completion before waiting for its
// interrupt. It spins less often the less often that helped.
type poller struct {
	misses, skip int
}

// maxMisses bounds how rarely the poller tries again: once in 2^maxMisses.
const maxMisses = 7

// pollDepth is how many commands may be under way where polling pays: with more,
// the interrupts of many come together.
const pollDepth = 4

// wait waits for an interrupt of the queues of one vector, and for what follows,
// until the function is gone or closed.
func (c *Controller) wait(in pci.Interrupt, admin bool, q *queue) {
	for in.Wait() == nil {
		if admin {
			c.admin.reap()
		}
		if q == nil {
			continue
		}
		q.count.interrupts.Add(1)
		for q.reap(); q.spin(); q.reap() {
			q.count.polls.Add(1)
		}
	}
}

// spinYield is how often the poller looks before it lets others run.
const spinYield = 32

// spin waits a little for the next completion and tells whether it came.
func (q *queue) spin() bool {
	p := &q.polls
	if q.c.config.Poll <= 0 || q.issued.Now() > pollDepth {
		return false
	}
	if p.skip > 0 {
		p.skip--
		return false
	}
	// Without the lock from here on: a stale word only makes the spin useless.
	q.mu.Lock()
	word, phase, live := q.ring.last(), q.ring.phase, q.live
	q.mu.Unlock()
	if !live {
		return false
	}
	for end, i := time.Now().Add(q.c.config.Poll), 1; ; i++ {
		if atomic.LoadUint32(word)&phaseTag == phase {
			p.misses = 0
			return true
		}
		if i%spinYield != 0 {
			continue
		}
		if runtime.Gosched(); time.Now().After(end) {
			break
		}
	}
	p.misses = min(p.misses+1, maxMisses)
	p.skip = 1<<p.misses - 1
	return false
}
