package nvme

import (
	"fmt"
	"time"

	"keel/diag/inspect"
	"keel/translate/blk"
)

// credit is how many resets a controller still has. It gets one back for every so
// many commands that went well, or after a quiet time.
type credit struct {
	left  int
	good  uint64 // commands that went well when the last one was given
	since uint64 // tick of that
}

const (
	goodForCredit  = 64
	quietForCredit = time.Minute
	longestRest    = 4 // exponent of the rest between two attempts, in quarters of a tick
)

// watchdog keeps the time, looks after commands that do not complete, and resets
// the controller when it must, until the controller is closed.
func (c *Controller) watchdog() {
	ticker := time.NewTicker(c.period)
	defer ticker.Stop()
	for alive := true; ; {
		select {
		case <-c.closing:
			return
		case <-c.f.Gone():
			c.depart()
			return
		case <-ticker.C:
			c.tick.Add(1)
			if alive {
				c.check()
			}
		case <-c.woken:
		}
		if alive && !c.isGone() {
			alive = c.attend()
		}
	}
}

// check looks at the status register, and gives credit.
func (c *Controller) check() {
	switch now := c.regs.Read32(regCSTS); {
	case now == allOnes:
		c.wantReset("registers read as all ones")
	case now&cstsFatal != 0:
		c.wantReset("fatal status")
	}
	good, now := uint64(0), c.tick.Load()
	for _, q := range c.queues {
		good += q.count.good.Load()
	}
	if good-c.credit.good < goodForCredit && now-c.credit.since < c.ticks(quietForCredit) {
		return
	}
	c.credit.good, c.credit.since = good, now
	c.credit.left = min(c.credit.left+1, c.config.Resets)
}

// attend does what is due, and tells whether the controller still works.
func (c *Controller) attend() bool {
	hung := false
	for _, q := range c.queues {
		hung = q.sweep() || hung
	}
	if hung {
		c.wantReset("command does not end")
	}
	reason := c.reason.Load()
	return reason == nil || c.reset(*reason)
}

// isGone tells whether the host took the function away.
func (c *Controller) isGone() bool {
	select {
	case <-c.f.Gone():
		return true
	default:
		return false
	}
}

// reset resets the controller and gives it again what it had not completed. It
// returns false when the controller does not work any more, or is closed.
func (c *Controller) reset(reason string) bool {
	// From here on requests pile up in their lanes, and what the rings hold is not
	// looked at any more.
	for _, q := range c.queues {
		q.mu.Lock()
		q.live = false
		q.mu.Unlock()
	}
	for attempt := 0; ; attempt++ {
		if c.isGone() {
			return true // the watchdog sees it, too
		}
		if c.credit.left == 0 {
			c.die(reason)
			return false
		}
		c.credit.left--
		if c.resets.again() {
			c.log.Warn("NVMe controller is reset", inspect.PublicAttr("reason", reason), inspect.PublicAttr("resets", c.resets.n.Load()))
		}
		err := c.restart()
		if err == nil {
			break
		}
		if c.failures.again() {
			c.log.Warn("NVMe controller does not start", inspect.PublicAttr("error", err))
		}
		select {
		case <-c.closing:
			return false
		case <-c.f.Gone():
		case <-time.After(c.period / 4 << min(attempt, longestRest)):
		}
	}
	// Cleared before the queues are live: what they find wrong is a new reason.
	c.reason.Store(nil)
	for _, q := range c.queues {
		q.replay()
	}
	c.wakeScanner()
	return true
}

// restart brings the controller back to where it takes commands.
func (c *Controller) restart() error {
	if err := c.quiesce(); err != nil {
		return err
	}
	if err := c.enable(); err != nil {
		return err
	}
	by := time.Now().Add(c.config.StartTimeout)
	data, err := c.identifyController(by)
	if err != nil {
		return err
	}
	// Commands were planned for what it said first.
	was := &c.identity
	if data.serial != was.serial || data.model != was.model || data.maxTransfer != was.maxTransfer || data.sgl != was.sgl {
		return fmt.Errorf("%w: it says that it is another one", ErrController)
	}
	n, err := c.offered(len(c.queues), by)
	if err != nil {
		return err
	}
	if n < len(c.queues) {
		return fmt.Errorf("%w: %d queues instead of %d", ErrController, n, len(c.queues))
	}
	if err = c.createQueues(by); err != nil {
		return err
	}
	if err = c.rescan(by); err != nil {
		return err
	}
	c.subscribe(by)
	return nil
}

// replay issues again what was under way before a reset.
func (q *queue) replay() {
	q.reaping.Lock()
	defer q.reaping.Unlock()
	q.mu.Lock()
	for i := range q.slots {
		if q.slots[i].state == slotIssued {
			q.slots[i].replays++
		}
	}
	q.mu.Unlock()
	q.settle(func(s *slot) error {
		switch {
		case s.cancel:
			return blk.ErrAborted
		case s.n.gone.Load():
			return blk.ErrRemoved
		case s.replays > maxReplays:
			return fmt.Errorf("%w: no answer to %#02x after %d resets", blk.ErrDevice, s.command.opcode(), s.replays)
		}
		return nil
	})
	q.mu.Lock()
	q.live, q.bogus = true, 0
	for i := range q.slots {
		if q.slots[i].state == slotIssued {
			q.count.replays.Add(1)
			q.issue(i)
		}
	}
	ended := q.pump()
	q.mu.Unlock()
	end(&ended)
}

// die gives the controller up.
func (c *Controller) die(reason string) {
	err := fmt.Errorf("%w: %w given up: %s", blk.ErrDevice, ErrController, reason)
	c.log.Error("NVMe controller given up", inspect.PublicAttr("reason", reason))
	c.isolate()
	c.terminate(err)
}

// depart ends everything of a function that the host took away.
func (c *Controller) depart() {
	c.log.Warn("NVMe controller was removed")
	c.isolate()
	c.mu.Lock()
	for _, n := range c.namespaces {
		c.remove(n)
	}
	c.mu.Unlock()
	c.terminate(errRemoved)
}

// terminate ends every request with an error, now and later.
// Preconditions: the function reaches no memory.
func (c *Controller) terminate(err error) {
	c.mu.Lock()
	if c.ended == nil {
		c.ended = err
	}
	c.mu.Unlock()
	if c.admin != nil {
		c.admin.stop(err)
	}
	for _, q := range c.queues {
		q.reaping.Lock()
		q.mu.Lock()
		q.live, q.fail = false, err
		q.mu.Unlock()
		q.settle(func(*slot) error { return err })
		for q.endOne(err) {
		}
		q.reaping.Unlock()
	}
}

// endOne ends one request that waits, or tells that there is none.
func (q *queue) endOne(err error) bool {
	q.mu.Lock()
	l := q.first
	if l == nil {
		q.mu.Unlock()
		return false
	}
	r, parts := l.cursor.r, l.cursor.parts
	l.cursor = cursor{}
	if r == nil {
		if r = l.pop(); r == nil {
			q.first, l.next, l.active = l.next, nil, false
		}
	}
	q.mu.Unlock()
	for range parts {
		r.Finish(err)
	}
	if r != nil && parts == 0 {
		r.Complete(err)
	}
	return true
}
