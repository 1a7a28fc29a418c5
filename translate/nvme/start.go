package nvme

import (
	"errors"
	"fmt"
	"time"
)

// Times between two looks at a register: the first, and the longest.
const (
	firstLook = 50 * time.Microsecond
	lastLook  = 10 * time.Millisecond
)

// pause sleeps and tells whether to go on.
func (c *Controller) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.f.Gone():
		return false
	}
}

// await looks at the controller's status until the masked bits have a value.
func (c *Controller) await(mask, value uint32, patience time.Duration) error {
	look := firstLook
	for end := time.Now().Add(patience); ; look = min(2*look, lastLook) {
		now := c.regs.Read32(regCSTS)
		switch {
		case now == allOnes:
			return fmt.Errorf("%w: status reads as all ones", errNoAnswer)
		case now&mask == value:
			return nil
		case now&cstsFatal != 0 && value != 0:
			return fmt.Errorf("%w: fatal status", errNoAnswer)
		case time.Now().After(end):
			return fmt.Errorf("%w: status is %#x after %v", errNoAnswer, now, patience)
		}
		if !c.pause(look) {
			return errRemoved
		}
	}
}

// readyPatience is how long the controller may take to become ready or to stop.
func (c *Controller) readyPatience() time.Duration {
	return min(c.caps.timeout(), c.config.ReadyTimeout)
}

// disable stops the controller, and returns nil when it said that it has. From then
// on it does not touch memory (NVMe §7.3.2).
func (c *Controller) disable() error {
	now := c.regs.Read32(regCC)
	if now == allOnes {
		return fmt.Errorf("%w: configuration reads as all ones", errNoAnswer)
	}
	if now&ccEnable != 0 {
		// The bit must not be changed on the way to ready (NVMe §3.1.5, EN).
		_ = c.await(cstsReady, cstsReady, min(c.readyPatience(), c.config.AbortTimeout))
		c.regs.Write32(regCC, now&^(ccEnable|ccShutdownMask))
	}
	return c.await(cstsReady, 0, c.readyPatience())
}

// quiesce stops the controller, whatever that takes, and lets it reach memory
// again: an error means that it does not work, and errUnsafe that it may still
// reach memory.
func (c *Controller) quiesce() error {
	stopped := c.disable()
	if stopped != nil {
		if err := c.f.Master(false); err != nil {
			return fmt.Errorf("%w: %w, then %w", errUnsafe, stopped, err)
		}
		// What cannot be reset alone is left as it is, and tried again.
		if err := c.f.Reset(); err != nil {
			stopped = fmt.Errorf("%w, then %w", stopped, err)
		}
		if err := c.disable(); err != nil {
			return fmt.Errorf("%w, then %w", stopped, err)
		}
	}
	return c.f.Master(true)
}

// errUnsafe says that the function may still reach memory.
var errUnsafe = errors.New("controller could not be stopped")

// isolate makes sure that the function reaches no memory any more.
func (c *Controller) isolate() {
	if c.f.Master(false) == nil {
		return
	}
	if !c.isGone() {
		// Nothing is left but to give the function back: that undoes its mappings.
		c.f.Close()
	}
}

// enable starts the controller with empty queues.
// Preconditions: it is disabled.
func (c *Controller) enable() error {
	// Old commands of the admin queue have their callers told, and old entries of all
	// queues must not look like new ones.
	c.admin.stop(errReset)
	for _, q := range c.queues {
		q.mu.Lock()
		q.ring.clear()
		q.mu.Unlock()
	}
	entries := uint32(c.admin.ring.size - 1)
	c.regs.Write32(regAQA, entries<<16|entries)
	c.regs.Write64(regASQ, c.admin.ring.sq.DMA)
	c.regs.Write64(regACQ, c.admin.ring.cq.DMA)
	c.regs.Write32(regCC, ccEntrySizes|ccEnable)
	if err := c.await(cstsReady, cstsReady, c.readyPatience()); err != nil {
		return err
	}
	c.admin.open()
	return nil
}

// identifyController reads what the controller says of itself.
func (c *Controller) identifyController(by time.Time) (controllerData, error) {
	b, err := c.identify(cnsController, 0, by)
	if err != nil {
		return controllerData{}, err
	}
	data, err := parseController(b)
	if err != nil || !data.cache {
		return data, err
	}
	// A cache that is there may be off. A controller that does not tell has it on.
	var e entry
	e.start(adminGetFeatures, 0)
	e.dword(10, featureCache)
	on, _, err := c.call(&e, by)
	switch {
	case err == nil:
		data.cache = on&1 != 0
	case errors.Is(err, errNoAnswer):
		return data, err
	}
	return data, nil
}

// offered asks for n queue pairs and returns how many there may be (NVMe
// §5.21.1.7).
func (c *Controller) offered(n int, by time.Time) (int, error) {
	var e entry
	e.start(adminSetFeatures, 0)
	e.dword(10, featureQueues)
	e.dword(11, uint32(n-1)<<16|uint32(n-1))
	got, _, err := c.call(&e, by)
	if err != nil {
		return 0, err
	}
	return min(n, int(got&0xffff)+1, int(got>>16)+1), nil
}

// createQueues makes the I/O queues.
func (c *Controller) createQueues(by time.Time) error {
	for i, q := range c.queues {
		id, size := uint32(q.ring.id), uint32(q.ring.size-1)
		vector := uint32(i + 1)
		if c.sharing {
			vector = 0
		}
		var e entry
		e.start(adminCreateCQ, 0)
		e.prp(q.ring.cq.DMA, 0)
		e.dword(10, size<<16|id)
		e.dword(11, vector<<16|dw11Interrupts|dw11Contiguous)
		if _, _, err := c.call(&e, by); err != nil {
			return err
		}
		e.start(adminCreateSQ, 0)
		e.prp(q.ring.sq.DMA, 0)
		e.dword(10, size<<16|id)
		e.dword(11, id<<16|dw11Contiguous)
		if _, _, err := c.call(&e, by); err != nil {
			return err
		}
	}
	return nil
}

// deleteQueues takes the I/O queues away.
func (c *Controller) deleteQueues(by time.Time) error {
	for _, q := range c.queues {
		for _, opcode := range []byte{adminDeleteSQ, adminDeleteCQ} {
			var e entry
			e.start(opcode, 0)
			e.dword(10, uint32(q.ring.id))
			if _, _, err := c.call(&e, by); err != nil {
				return err
			}
		}
	}
	return nil
}

// reapUntil takes the admin queue's completions without interrupts, for as long as
// nobody waits for the only vector.
func (c *Controller) reapUntil(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond):
			c.admin.reap()
		}
	}
}
