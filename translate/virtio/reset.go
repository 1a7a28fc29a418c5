package virtio

// A reset ends in its own time: chains that the Handler has taken must come back
// first, because devices may still move data to and from their memory. Until then
// the status reads as it was, and the driver waits for 0 (§4.1.4.3.1). A ring
// that is being reset is dead: nothing is taken from it or written to it.

// Reset puts the device and its PCI function into their power-on state. It waits
// for the chains that are in flight: afterwards no device touches guest memory on
// their behalf. Preconditions: no VP runs.
func (d *Device) Reset() {
	d.beginReset()
	d.mu.Lock()
	for d.resetting {
		d.idle.Wait()
	}
	d.mu.Unlock()
	d.access.reset()
	d.endpoint.Reset()
}

// beginReset starts a reset, which ends at once when nothing is in flight.
func (d *Device) beginReset() {
	d.mu.Lock()
	if d.resetting {
		d.mu.Unlock()
		return
	}
	d.resetting = true
	d.counters.resets.Add(1)
	for _, q := range d.queues {
		q.kill()
	}
	d.mu.Unlock()
	d.handler.Cancel(-1)
	d.drained()
}

// beginQueueReset starts the reset of one queue (§2.6.1). The caller holds mu; it
// calls what is returned, if anything, without.
func (d *Device) beginQueueReset(q *Queue) (proceed func()) {
	if d.resetting || q.draining != nil || !q.enabled {
		return nil
	}
	q.kill()
	return func() {
		d.handler.Cancel(q.index)
		d.drained()
	}
}

// drained ends the resets for which nothing is in flight any more.
func (d *Device) drained() {
	d.mu.Lock()
	defer d.mu.Unlock()
	busy := false
	for _, q := range d.queues {
		switch {
		case q.draining == nil:
		case q.draining.users.Load() != 0:
			busy = true
		default:
			q.defaults()
		}
	}
	if d.resetting && !busy {
		d.defaults()
		d.resetting = false
		d.idle.Broadcast()
	}
}

// defaults is the state after a reset. The caller holds mu.
func (d *Device) defaults() {
	d.deviceSelect, d.driverSelect, d.driver, d.selected = 0, 0, 0, 0
	d.features.Store(0)
	d.configVector.Store(NoVector)
	for _, q := range d.queues {
		q.defaults()
	}
	d.handler.Reset()
	d.endpoint.ClearPending()
	d.isr.Store(0)
	d.status.Store(0)
}

// kill ends the life of the queue's ring. The caller holds the device's mu.
func (q *Queue) kill() {
	if r := q.ring.Swap(nil); r != nil {
		r.dead.Store(true)
		q.draining = r
	}
}

// defaults is the state of a queue after its reset. The caller holds the device's
// mu.
func (q *Queue) defaults() {
	q.size, q.enabled, q.draining = q.max, false, nil
	q.desc, q.driver, q.used = 0, 0, 0
	q.vector.Store(NoVector)
}
