package nvme

import (
	"time"

	"keel/diag/inspect"
	"keel/translate/blk"
)

// Close lets the requests that are under way end, for a bounded time, shuts the
// controller down, and closes its function. What did not end until then ends with
// ErrAborted, what is submitted later with ErrRemoved. It must not be called from
// Done, Added, or a function given to Watch.
func (c *Controller) Close() error {
	var err error
	c.shutting.Do(func() { err = c.shutDown() })
	return err
}

// shutDown does the work of Close.
func (c *Controller) shutDown() error {
	// New requests are refused while the old ones go on.
	for _, q := range c.queues {
		q.mu.Lock()
		if q.fail == nil {
			q.fail = errClosed
		}
		q.mu.Unlock()
	}
	look := firstLook
	for end := time.Now().Add(c.config.ShutdownTimeout); !c.idle() && time.Now().Before(end); look = min(2*look, lastLook) {
		time.Sleep(look)
	}
	close(c.closing)
	c.running.Wait()
	if c.Err() == nil && !c.farewell() {
		c.isolate()
	}
	c.terminate(blk.ErrAborted)
	for _, q := range c.queues {
		q.mu.Lock()
		q.fail = errClosed
		q.mu.Unlock()
	}
	err := c.f.Close()
	c.waiting.Wait()
	return err
}

// idle tells whether no request is under way.
func (c *Controller) idle() bool {
	for _, q := range c.queues {
		q.mu.Lock()
		idle := q.first == nil && len(q.free) == len(q.slots)
		q.mu.Unlock()
		if !idle {
			return false
		}
	}
	return true
}

// farewell shuts the controller down (NVMe §7.6.2) and tells whether it reaches no
// memory any more.
func (c *Controller) farewell() bool {
	by := time.Now().Add(c.config.ShutdownTimeout)
	if err := c.deleteQueues(by); err != nil {
		c.log.Warn("NVMe queues could not be deleted", inspect.PublicAttr("error", err))
	}
	now := c.regs.Read32(regCC)
	if now == allOnes {
		return false
	}
	c.regs.Write32(regCC, now&^ccShutdownMask|ccShutdownNormal)
	if err := c.await(cstsShutdownMask, cstsShutdownDone, c.config.ShutdownTimeout); err != nil {
		c.log.Warn("NVMe controller was not shut down cleanly", inspect.PublicAttr("error", err))
	}
	if err := c.disable(); err != nil {
		return false
	}
	return c.f.Master(false) == nil
}

// halt undoes what Open did before it failed.
func (c *Controller) halt() {
	if c.admin != nil && c.disable() != nil {
		c.isolate()
	}
	c.terminate(errClosed)
	c.f.Close()
	c.waiting.Wait()
}
