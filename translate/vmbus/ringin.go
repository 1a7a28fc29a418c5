package vmbus

import "encoding/binary"

// inRing is what the guest writes and the server reads. The goroutine that serves
// the channel owns it.
type inRing struct {
	ring
	next      uint32 // index of the next packet
	committed uint32 // index that the guest knows of
}

// open takes over a ring as the guest prepared it.
func (r *inRing) open() bool {
	at, ok := r.index(ctlRead)
	if _, valid := r.index(ctlWrite); !ok || !valid {
		return false
	}
	r.next, r.committed = at, at
	return true
}

// mask asks the guest for signals, or tells it that the server looks by itself.
func (r *inRing) mask(on bool) {
	var v uint32
	if on {
		v = 1
	}
	r.store(ctlMask, v)
}

// take copies the next packet out of the ring. It returns false when there is none,
// errSkipped for a packet that was passed over, and ErrRing when the ring has no
// meaning any more.
func (r *inRing) take(p *Packet) (bool, error) {
	write, ok := r.index(ctlWrite)
	if !ok {
		return false, ErrRing
	}
	available := r.used(r.next, write)
	if available == 0 {
		return false, nil
	}
	if available < sizeDescriptor+sizeTrailer {
		return false, ErrRing
	}
	head := p.buffer[:sizeDescriptor]
	r.read(r.next, head)
	p.kind = binary.LittleEndian.Uint16(head)
	offset := uint32(binary.LittleEndian.Uint16(head[2:])) * packetUnit
	length := uint32(binary.LittleEndian.Uint16(head[4:])) * packetUnit
	p.flags = binary.LittleEndian.Uint16(head[6:])
	p.Transaction = binary.LittleEndian.Uint64(head[8:])
	if offset < sizeDescriptor || offset > length || length+sizeTrailer > available {
		return false, ErrRing
	}
	at := r.next
	r.next = r.add(at, length+sizeTrailer)
	if length > uint32(len(p.buffer)) {
		return false, errSkipped
	}
	r.read(r.add(at, sizeDescriptor), p.buffer[sizeDescriptor:length])
	if !p.parse(offset, length) {
		return false, errSkipped
	}
	return true, nil
}

// untake puts the packet that take returned last back. at is the index from before.
func (r *inRing) untake(at uint32) { r.next = at }

// commit gives the room of what was taken back to the guest. It returns true when
// the guest waits for that much room and must be interrupted.
func (r *inRing) commit() bool {
	if r.next == r.committed {
		return false
	}
	before := r.committed
	r.committed = r.next
	r.store(ctlRead, r.next)
	// Guests may ask for the whole ring less one byte, meaning an empty one.
	pending := r.load(ctlPending) &^ (packetUnit - 1)
	if pending == 0 || r.load(ctlFeatures)&featurePending == 0 {
		return false
	}
	write, ok := r.index(ctlWrite)
	if !ok {
		return false
	}
	// A packet fits when the room exceeds its size: a full ring would look empty.
	return r.size-r.used(before, write) <= pending && r.size-r.used(r.next, write) > pending
}
