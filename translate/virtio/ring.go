package virtio

import "encoding/binary"

func get16(b []byte) uint16    { return binary.LittleEndian.Uint16(b) }
func put16(b []byte, v uint16) { binary.LittleEndian.PutUint16(b, v) }
func put32(b []byte, v uint32) { binary.LittleEndian.PutUint32(b, v) }

// availIndex loads the available index before anything that it announces.
func (r *ring) availIndex() uint16 {
	v := get16(r.avail[ringIndex:])
	r.fence.Load() // keeps the compiler from moving later loads up
	return v
}

// rearm asks for a notification of the next chain and tells whether there is
// still none (§2.7.10). The fence makes the request visible before the second
// look: either the driver sees the request or this call sees the chain.
func (r *ring) rearm() bool {
	switch {
	case r.events:
		put16(r.usedRing[ringEntries+usedEntry*int(r.size):], r.next)
	case r.quiet:
		put16(r.usedRing[ringFlags:], 0)
		r.quiet = false
	}
	r.fence.Add(1)
	return r.availIndex() == r.next
}

// beQuiet asks for no notifications while chains are being taken. With event
// indices there is nothing to do: the event lies behind.
func (r *ring) beQuiet() {
	if !r.events && !r.quiet {
		put16(r.usedRing[ringFlags:], usedNoNotify)
		r.quiet = true
	}
}

func (r *ring) takeSlot() (uint16, bool) {
	r.usedMu.Lock()
	defer r.usedMu.Unlock()
	n := len(r.free)
	if n == 0 {
		return 0, false
	}
	slot := r.free[n-1]
	r.free = r.free[:n-1]
	return slot, true
}

func (r *ring) putSlot(slot uint16) {
	r.usedMu.Lock()
	r.free = append(r.free, slot)
	r.usedMu.Unlock()
}

// hold puts off interrupts while chains are taken: those that complete meanwhile
// share one.
func (r *ring) hold() {
	r.usedMu.Lock()
	r.held = true
	r.usedMu.Unlock()
}

// release decides about the interrupt that hold put off.
func (r *ring) release() {
	r.usedMu.Lock()
	r.held = false
	signal := r.index != r.signalled && !r.dead.Load() && r.wanted()
	r.usedMu.Unlock()
	if signal {
		r.queue.device.interrupt(r.queue)
	}
}

// complete gives a chain back to the driver, unless a reset has begun.
func (r *ring) complete(slot, head uint16, written uint32) {
	signal := false
	r.usedMu.Lock()
	r.free = append(r.free, slot)
	if r.dead.Load() {
		r.queue.dropped.Add(1)
	} else {
		entry := r.usedRing[ringEntries+usedEntry*int(r.index&(r.size-1)):]
		put32(entry, uint32(head))
		put32(entry[usedEntryLength:], written)
		r.fence.Load() // the entry comes first for the compiler too
		r.index++
		put16(r.usedRing[ringIndex:], r.index)
		signal = !r.held && r.wanted()
	}
	r.usedMu.Unlock()
	if signal {
		r.queue.device.interrupt(r.queue)
	}
	r.leave()
}

// wanted decides whether the chains used since the last decision are worth an
// interrupt (§2.7.7). The fence makes the used index visible before the look at
// what the driver wants. The caller holds usedMu.
func (r *ring) wanted() bool {
	old := r.signalled
	r.signalled = r.index
	r.fence.Add(1)
	if !r.events {
		return get16(r.avail[ringFlags:])&availNoInterrupt == 0
	}
	event := get16(r.avail[ringEntries+availEntry*int(r.size):])
	return r.index-event-1 < r.index-old
}
