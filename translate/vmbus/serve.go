package vmbus

import (
	"errors"
	"sync/atomic"
)

// Packets that are handed to a device in one go: on the thread of the VP that
// signalled, which runs no guest code meanwhile, and by the worker.
const (
	inlineBudget = 32
	workerBudget = 256
)

// executor lets one goroutine at a time serve a channel. Who comes meanwhile leaves
// a mark and goes; the one that serves looks once more. So a signal costs no
// hand-over to another goroutine, and nobody waits for a lock.
type executor struct{ state atomic.Int32 }

const (
	execIdle int32 = iota
	execRunning
	execAgain
)

// begin tells whether the caller is to serve.
func (e *executor) begin() bool {
	for {
		switch e.state.Load() {
		case execIdle:
			if e.state.CompareAndSwap(execIdle, execRunning) {
				return true
			}
		case execRunning:
			if e.state.CompareAndSwap(execRunning, execAgain) {
				return false
			}
		default:
			return false
		}
	}
}

// end tells whether the caller is done. If not, somebody came meanwhile.
func (e *executor) end() bool {
	if e.state.CompareAndSwap(execRunning, execIdle) {
		return true
	}
	e.state.Store(execRunning)
	return false
}

// kick serves the channel on the caller's goroutine, up to a bound; the worker does
// the rest.
func (c *Channel) kick() {
	if c.work.begin() && !c.serve(inlineBudget) {
		c.handOver()
	}
}

// Resume makes a worker look for packets: the device can take more. It may be
// called from any goroutine, with locks of the device held.
func (c *Channel) Resume() {
	if c.work.begin() {
		c.handOver()
	}
}

// Poll looks for packets that the guest wrote while the device polled. A device
// calls it whenever work ends, after that can be seen in Poller.Polls.
func (c *Channel) Poll() {
	if c.polling.Load() && c.polling.Swap(false) {
		c.Resume()
	}
}

// sleeps tells whether the guest may be left unasked for signals. The wish to be
// polled is stored before the device is asked, and work ends before Poll looks for
// the wish: one of two sees the other.
func (c *Channel) sleeps() bool {
	if c.poller == nil {
		return false
	}
	c.polling.Store(true)
	if c.poller.Polls() {
		return true
	}
	c.polling.Store(false)
	return false
}

// handOver gives the right to serve, which the caller has, to the worker.
func (c *Channel) handOver() {
	if !c.working.Swap(true) {
		go c.worker()
	}
	c.hand <- struct{}{} // has room: one goroutine at a time may serve
}

// worker serves what would hold a VP up for too long.
func (c *Channel) worker() {
	for {
		select {
		case <-c.quit:
			return
		case <-c.hand:
			for !c.serve(workerBudget) {
				continue
			}
		}
	}
}

// stopWorker ends the worker, once the channel is gone.
func (c *Channel) stopWorker() {
	if !c.stopped.Swap(true) {
		close(c.quit)
	}
}

// serve does all there is to do. It returns false when it handed out as many
// packets as it may: the caller still has the right to serve, and has to pass it on.
func (c *Channel) serve(budget int) bool {
	for budget > 0 {
		n, more := c.step(budget)
		// A round without packets counts too: another VP can signal all the time.
		budget -= n + 1
		if !more && c.work.end() {
			return true
		}
	}
	return false
}

// step goes through the channel's life and its rings once. more tells that packets
// may be left.
func (c *Channel) step(budget int) (n int, more bool) {
	s := c.server
	if c.opening.Swap(false) && !c.openDevice() {
		return 0, false
	}
	if c.closing.Load() {
		if c.live {
			c.live = false
			c.device.Close(c)
			// Closed may have been called, and the channel opened again.
			return 0, c.opening.Load()
		}
		return 0, false
	}
	if !c.live || c.broken {
		return 0, false
	}
	if c.out.waits() {
		c.device.Writable(c)
	}
	n, more = c.drain(budget)
	c.commit()
	s.n.packets.Add(uint64(n))
	return n, more
}

// openDevice calls Device.Open. It returns false when the channel did not open.
func (c *Channel) openDevice() bool {
	s := c.server
	if c.closing.Load() {
		// Closed before the device ever saw it.
		s.mu.Lock()
		if c.state == stateClosing {
			s.setClosed(c)
		}
		s.unlock()
		return false
	}
	if c.scratch == nil {
		c.scratch = make([]byte, c.offer.MaxPacket)
	}
	c.packet.buffer = c.scratch
	c.broken = false
	if err := c.device.Open(c); err != nil {
		s.openFailed(c)
		return false
	}
	c.live = true
	s.opened(c)
	return true
}

// drain hands packets to the device. The guest is asked not to signal meanwhile.
func (c *Channel) drain(budget int) (n int, more bool) {
	c.in.mask(true)
	for range budget {
		if c.closing.Load() {
			return n, true
		}
		before := c.in.next
		ok, err := c.in.take(&c.packet)
		switch {
		case errors.Is(err, errSkipped):
			c.server.n.badPackets.Add(1)
		case err != nil:
			c.broken = true
			c.server.n.brokenRings.Add(1)
			return n, false
		case ok:
			if !c.device.Receive(c, &c.packet) {
				// The device resumes; signals would change nothing.
				c.in.untake(before)
				return n, false
			}
			n++
		case c.sleeps():
			if w, ok := c.in.index(ctlWrite); ok && w == c.in.next {
				return n, false
			}
		default:
			// Guests signal only a ring that they see as empty, so the read index
			// comes first. Then ask for signals, and look again: a packet that the
			// guest wrote before it could see all that came without one.
			c.commit()
			c.in.mask(false)
			if w, ok := c.in.index(ctlWrite); ok && w == c.in.next {
				return n, false
			}
			c.in.mask(true)
		}
	}
	return n, true
}

// commit gives room in the ring back, and tells the guest where it waits for that.
func (c *Channel) commit() {
	if c.in.commit() {
		c.interrupt()
	}
}

// interrupt sets the channel's event flag in the guest.
func (c *Channel) interrupt() {
	vp := c.target.Load()
	if vp == noVP {
		return
	}
	// The number cannot change while the channel is open.
	if c.server.hv.SignalEvent(int(vp), MessageSINT, int(c.flag.Load())) != nil {
		c.server.n.lost.Add(1)
		return
	}
	c.server.n.interrupts.Add(1)
}

// retarget changes the VP of interrupts.
func (c *Channel) retarget(vp uint32) { c.target.Store(vp) }

// Complete answers a packet that asked for completion. It may be called from any
// goroutine between Device.Open and Channel.Closed. ErrFull means that
// Device.Writable will be called.
func (c *Channel) Complete(transaction uint64, payload []byte) error {
	return c.send(packetCompletion, 0, transaction, payload)
}

// Post sends a packet of the device's own, which is not to be completed, as
// Complete does.
func (c *Channel) Post(payload []byte) error {
	return c.send(packetInBand, 0, 0, payload)
}

func (c *Channel) send(kind, flags uint16, transaction uint64, payload []byte) error {
	signal, err := c.out.send(kind, flags, transaction, payload)
	if signal {
		c.interrupt()
	}
	return err
}

// VP returns the VP that the channel's interrupts go to, -1 for none.
func (c *Channel) VP() int {
	if vp := c.target.Load(); vp != noVP {
		return int(vp)
	}
	return -1
}
