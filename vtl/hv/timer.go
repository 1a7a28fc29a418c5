package hv

import (
	"encoding/binary"
	"math"

	"keel/hcl/abi/hv"
	"keel/vtl/irq"
)

// minPeriod is the shortest time between two expiries of a periodic timer, in units
// of the reference time. A shorter period counts right but loses expiries, so that a
// guest cannot keep its VP, or Keel, busy with nothing else.
const minPeriod = 1000

// timer is a synthetic timer (TLFS "Synthetic Timers"). Times are reference times.
type timer struct {
	config  uint64
	count   uint64 // when a one-shot timer expires, how often a periodic one
	next    uint64 // the next expiry, while the timer is enabled
	pending bool   // expired, and the message has yet to find its slot
	expiry  uint64 // of that message
	index   uint32
}

func (t *timer) enabled() bool  { return t.config&hv.STIMER_ENABLED != 0 }
func (t *timer) periodic() bool { return t.config&hv.STIMER_PERIODIC != 0 }
func (t *timer) direct() bool   { return t.config&hv.STIMER_DIRECT != 0 }
func (t *timer) sint() int      { return int(t.config >> hv.STIMER_SINT_SHIFT & hv.STIMER_SINT) }
func (t *timer) vector() irq.Vector {
	return irq.Vector(t.config >> hv.STIMER_VECTOR_SHIFT)
}

// readTimer reads a register of a timer, by its distance from the first one.
func (h *Hypervisor) readTimer(v *vp, register uint32) (uint64, bool) {
	h.CheckTimers(v.index)
	v.mu.Lock()
	defer v.mu.Unlock()
	t := &v.timers[register/2]
	if register%2 == 0 {
		return t.config, true
	}
	return t.count, true
}

// writeTimer writes one likewise. Bits of the configuration that must be zero raise
// #GP.
func (h *Hypervisor) writeTimer(v *vp, register uint32, value uint64) bool {
	if register%2 == 0 && value&^hv.STIMER_DEFINED != 0 {
		return false
	}
	now := h.now(v.index)
	v.mu.Lock()
	defer v.mu.Unlock()
	t := &v.timers[register/2]
	t.index = register / 2
	if register%2 == 0 {
		t.config = value
	} else {
		t.count = value
		switch {
		case value == 0:
			t.config &^= hv.STIMER_ENABLED
		case t.config&hv.STIMER_AUTO_ENABLE != 0:
			t.config |= hv.STIMER_ENABLED
		}
	}
	t.pending = false // what was under way belongs to the old setting
	t.start(now)
	h.expire(v, now)
	return true
}

// start begins to count. A timer that could reach nobody, or that has no count, is
// disabled at once.
func (t *timer) start(now uint64) {
	if t.direct() && t.vector() < hv.SINT_FIRST_VECTOR || !t.direct() && t.sint() == 0 || t.count == 0 {
		t.config &^= hv.STIMER_ENABLED
	}
	t.next = t.count
	if t.periodic() {
		t.next = later(now, t.count)
	}
}

// later adds two times; the end of time is as late as it gets.
func later(a, b uint64) uint64 {
	if a+b < a {
		return math.MaxUint64
	}
	return a + b
}

// CheckTimers does what the timers of a VP have to do by now. The VP's thread calls it
// when TimerDeadline has come; earlier calls do no harm.
func (h *Hypervisor) CheckTimers(vp int) {
	v := h.vp(vp)
	if v == nil || v.deadline.Load() == 0 {
		return
	}
	now := h.now(vp)
	v.mu.Lock()
	defer v.mu.Unlock()
	h.expire(v, now)
}

// TimerDeadline returns when CheckTimers has work next, in the time of Now, or 0 when
// there is none. It takes no lock.
func (h *Hypervisor) TimerDeadline(vp int) int64 {
	if v := h.vp(vp); v != nil {
		return v.deadline.Load()
	}
	return 0
}

// expire expires what is due and sets the deadline of what comes next.
func (h *Hypervisor) expire(v *vp, now uint64) {
	for i := range v.timers {
		t := &v.timers[i]
		if !t.enabled() || now < t.next {
			continue
		}
		h.stats.timersExpired.Add(1)
		at := t.next
		if t.periodic() {
			h.stats.timersMissed.Add(t.advance(now))
		} else {
			t.config &^= hv.STIMER_ENABLED
		}
		if t.direct() {
			h.config.Interrupts.Raise(v.index, t.vector())
			continue
		}
		// An expiry whose message still waits is part of that message.
		if !t.pending {
			t.pending, t.expiry = true, at
		}
		h.deliver(v, t.sint())
	}
	h.rearm(v)
}

// advance finds the next expiry of a periodic timer that is due and returns how many
// were skipped. The phase stays that of the first one. Lazy timers skip what they
// missed by definition; the others do not make up for it either.
func (t *timer) advance(now uint64) (missed uint64) {
	first := t.next
	from := now
	if t.count < minPeriod {
		from = later(now, minPeriod-1)
	}
	t.next = later(from, t.count-(from-first)%t.count)
	return (t.next - first - 1) / t.count
}

// rearm sets the deadline to the earliest expiry.
func (h *Hypervisor) rearm(v *vp) {
	next, running := uint64(math.MaxUint64), false
	for i := range v.timers {
		if t := &v.timers[i]; t.enabled() {
			next, running = min(next, t.next), true
		}
	}
	if !running {
		v.deadline.Store(0)
		return
	}
	v.deadline.Store(h.clockTime(v.index, next))
}

// clockTime converts a reference time to the time of Now, never too early as
// of now. It saturates, and is never 0.
func (h *Hypervisor) clockTime(vp int, at uint64) int64 {
	clock, now := h.config.Now(), h.now(vp)
	if at <= now {
		return max(clock, 1)
	}
	left := at - now
	if left > math.MaxInt64/unit/2 {
		return math.MaxInt64
	}
	return max(clock+int64(left)*unit, 1)
}

// expired returns a timer of the VP whose message waits for a source's slot, or nil.
func (v *vp) expired(sint int) *timer {
	for i := range v.timers {
		if t := &v.timers[i]; t.pending && t.sint() == sint {
			return t
		}
	}
	return nil
}

// message writes the payload of a timer's message (TLFS HV_TIMER_MESSAGE_PAYLOAD).
func (t *timer) message(p []byte, now uint64) {
	binary.LittleEndian.PutUint32(p[hv.TIMER_MESSAGE_INDEX:], t.index)
	binary.LittleEndian.PutUint64(p[hv.TIMER_MESSAGE_EXPIRATION:], t.expiry)
	binary.LittleEndian.PutUint64(p[hv.TIMER_MESSAGE_DELIVERY:], now)
}
