package hv

import (
	"encoding/binary"
	"sync/atomic"

	"keel/hcl/abi/hv"
	"keel/vtl/irq"
)

// queueLength is how many messages wait for one slot (TLFS "Guest Message Buffers").
const queueLength = 16

// message is a message that has yet to be put into a slot.
type message struct {
	kind    uint32
	size    uint8
	payload [hv.HV_MESSAGE_PAYLOAD_BYTE_COUNT]byte
}

// queue holds the messages for one source, in the order in which they were posted.
// Its memory comes with the first one and stays.
type queue struct {
	ring        *[queueLength]message
	first, used int
}

func (q *queue) clear() { q.first, q.used = 0, 0 }

// push adds a message and reports whether there was room.
func (q *queue) push(kind uint32, payload []byte) bool {
	if q.used == queueLength {
		return false
	}
	if q.ring == nil {
		q.ring = new([queueLength]message)
	}
	m := &q.ring[(q.first+q.used)%queueLength]
	m.kind, m.size = kind, uint8(len(payload))
	copy(m.payload[:], payload)
	q.used++
	return true
}

// pop removes the oldest message.
func (q *queue) pop() {
	q.first = (q.first + 1) % queueLength
	q.used--
}

// PostMessage sends a message to a source of a VP: into its slot of the SIM page
// when that is free, else into a queue, from where it follows when the guest ends
// the message before it. Messages of one source arrive in order. The error is
// ErrBusy when the queue is full, ErrOff when the SynIC or the SIM page is off, and
// ErrInvalid for a VP or source that does not exist, for kind 0 and for more than
// 240 bytes. Any goroutine may call it.
func (h *Hypervisor) PostMessage(vp, sint int, kind uint32, payload []byte) error {
	v := h.vp(vp)
	if v == nil || sint < 0 || sint >= hv.SINT_COUNT || kind == hv.HvMessageTypeNone ||
		len(payload) > hv.HV_MESSAGE_PAYLOAD_BYTE_COUNT {
		return ErrInvalid
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.takesMessages() {
		return ErrOff
	}
	if !v.queues[sint].push(kind, payload) {
		// The guest may have emptied the slot without saying so.
		if !h.deliver(v, sint) || !v.queues[sint].push(kind, payload) {
			h.stats.messagesBusy.Add(1)
			return ErrBusy
		}
	}
	h.deliver(v, sint)
	return nil
}

// takesMessages reports whether messages can reach the VP.
func (v *vp) takesMessages() bool {
	return v.control.Load()&hv.SCONTROL_ENABLE != 0 && v.messages != nil
}

// deliverAll looks at every source for messages that now fit.
func (h *Hypervisor) deliverAll(v *vp) {
	for sint := range v.queues {
		h.deliver(v, sint)
	}
}

// deliver puts the next message of a source into its slot, if there is one and the
// slot is free, and interrupts. It reports whether it did.
func (h *Hypervisor) deliver(v *vp, sint int) bool {
	t := v.expired(sint)
	q := &v.queues[sint]
	if t == nil && q.used == 0 || !v.takesMessages() {
		return false
	}
	slot := v.messages.slot(sint)
	if !vacant(slot) {
		return false
	}
	// Timers have a buffer each and go first, so that they wait for nobody.
	if t != nil {
		var payload [hv.TIMER_MESSAGE_SIZE]byte
		t.message(payload[:], h.now(v.index))
		t.pending = false
		fill(slot, hv.HvMessageTimerExpired, payload[:], q.used > 0 || v.expired(sint) != nil)
	} else {
		m := &q.ring[q.first]
		q.pop()
		fill(slot, m.kind, m.payload[:m.size], q.used > 0)
	}
	h.stats.messages.Add(1)
	h.interrupt(v, sint)
	return true
}

// vacant reports whether the guest has emptied a slot. If not, the message in it is
// marked, so that the guest ends it with a write of MSR_EOM.
func vacant(slot []uint32) bool {
	return atomic.LoadUint32(&slot[hv.MESSAGE_TYPE/4]) == hv.HvMessageTypeNone || mark(slot)
}

// mark says in a slot that another message waits for it, and reports whether the
// guest has emptied it meanwhile. The guest looks at the mark after it has emptied
// the slot, and here it is the other way round: one of the two sees the other.
func mark(slot []uint32) (vacant bool) {
	atomic.OrUint32(&slot[hv.MESSAGE_FLAGS/4], hv.MESSAGE_FLAG_PENDING<<(8*(hv.MESSAGE_FLAGS%4)))
	return atomic.LoadUint32(&slot[hv.MESSAGE_TYPE/4]) == hv.HvMessageTypeNone
}

// fill writes a message into a vacant slot; the type comes last.
func fill(slot []uint32, kind uint32, payload []byte, more bool) {
	header := uint32(len(payload))
	if more {
		header |= hv.MESSAGE_FLAG_PENDING << (8 * (hv.MESSAGE_FLAGS % 4))
	}
	atomic.StoreUint32(&slot[hv.MESSAGE_PAYLOAD_SIZE/4], header)
	atomic.StoreUint32(&slot[hv.MESSAGE_ORIGINATION/4], 0)
	atomic.StoreUint32(&slot[hv.MESSAGE_ORIGINATION/4+1], 0)
	for i := 0; i < len(payload); i += 4 {
		var word [4]byte
		copy(word[:], payload[i:])
		atomic.StoreUint32(&slot[(hv.MESSAGE_PAYLOAD+i)/4], binary.NativeEndian.Uint32(word[:]))
	}
	atomic.StoreUint32(&slot[hv.MESSAGE_TYPE/4], kind)
}

// SignalEvent sets an event flag of a source, 0 to 2047, in the SIEF page of a VP
// and interrupts when it was clear. The error is ErrOff when the SynIC or the SIEF
// page is off or the source is masked, and ErrInvalid for what does not exist. It
// takes no lock and allocates nothing; any goroutine may call it.
func (h *Hypervisor) SignalEvent(vp, sint, flag int) error {
	v := h.vp(vp)
	if v == nil || sint < 0 || sint >= hv.SINT_COUNT || flag < 0 || flag >= hv.HV_EVENT_FLAGS_COUNT {
		return ErrInvalid
	}
	p := v.events.Load()
	if p == nil || v.control.Load()&hv.SCONTROL_ENABLE == 0 {
		return ErrOff
	}
	if v.sints[sint].Load()&(hv.SINT_MASKED|hv.SINT_POLLING) == hv.SINT_MASKED {
		return ErrOff
	}
	bit := uint32(1) << (flag % 32)
	if atomic.OrUint32(&p.slot(sint)[flag/32], bit)&bit == 0 {
		h.stats.events.Add(1)
		h.interrupt(v, sint)
	}
	return nil
}

// interrupt raises the vector of a source, unless it is masked or polled.
func (h *Hypervisor) interrupt(v *vp, sint int) {
	s := v.sints[sint].Load()
	if s&(hv.SINT_MASKED|hv.SINT_POLLING) == 0 {
		h.config.Interrupts.Raise(v.index, irq.Vector(s&hv.SINT_VECTOR))
	}
}
