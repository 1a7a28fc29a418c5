package apic

import "keel/vtl/irq"

// minPeriod is the shortest time in nanoseconds between two interrupts of a
// periodic timer. A shorter period counts right but loses ticks, so that a
// guest cannot keep its VP from running at all.
const minPeriod = 50_000

// timer is the state of the local APIC timer beside its LVT entry. One count
// lasts divisor nanoseconds, because TimerHz is 1 GHz.
type timer struct {
	initial  uint32
	divide   uint32
	start    int64  // when the current run of the count began
	period   int64  // nanoseconds from initial to zero; 0 while not counting
	deadline int64  // next expiry; 0 when there is none
	tsc      uint64 // IA32_TSC_DEADLINE
}

// divisor decodes the divide configuration register: 000b divides by 2, 110b
// by 128, 111b by 1.
func (t *timer) divisor() int64 {
	code := t.divide&3 | t.divide>>1&4
	return 1 << ((code + 1) & 7)
}

// load starts counting down from count at now.
func (t *timer) load(count uint32, now int64) {
	t.period = int64(t.initial) * t.divisor()
	t.start = now - (t.period - int64(count)*t.divisor())
	t.deadline = t.start + t.period
}

// stop ends counting and forgets a TSC deadline.
func (t *timer) stop() { t.period, t.deadline, t.tsc = 0, 0, 0 }

// elapsed returns the nanoseconds since the count was at its initial value.
func (t *timer) elapsed(now int64, mode uint32) int64 {
	e := max(now-t.start, 0)
	if mode == timerPeriodic {
		return e % t.period
	}
	return min(e, t.period)
}

// current returns the current count.
func (t *timer) current(now int64, mode uint32) uint32 {
	if t.period == 0 {
		return 0
	}
	left := t.period - t.elapsed(now, mode)
	d := t.divisor()
	return uint32((left + d - 1) / d)
}

// timerMode returns the mode in the timer's LVT entry.
func (l *Local) timerMode() uint32 {
	return l.lvt[lvtTimer].Load() & lvtTimerMode >> lvtTimerShift
}

// writeTimerLVT sets the timer's LVT entry. A count goes on when one-shot and
// periodic change places; any other change of mode disarms the timer (SDM vol.
// 3, "TSC-Deadline Mode").
func (l *Local) writeTimerLVT(v uint32) {
	t, now := &l.timer, l.set.env.Now()
	l.CheckTimer(now) // what is due belongs to the old entry
	old := l.timerMode()
	l.lvt[lvtTimer].Store(v)
	mode := l.timerMode()
	switch {
	case mode == old:
	case mode > timerPeriodic || old > timerPeriodic:
		t.stop()
	case t.period != 0:
		t.start = now - t.elapsed(now, old)
		t.deadline = t.start + t.period
	}
}

// writeInitial sets the initial count, which starts the timer; zero stops it.
// TSC-deadline mode ignores the write.
func (l *Local) writeInitial(v uint32) {
	if l.timerMode() > timerPeriodic {
		return
	}
	now := l.set.env.Now()
	l.CheckTimer(now)
	l.timer.initial = v
	if v == 0 {
		l.timer.stop()
		return
	}
	l.timer.load(v, now)
}

// writeDivide changes the rate; a count under way goes on from where it is.
func (l *Local) writeDivide(v uint32) {
	t, now := &l.timer, l.set.env.Now()
	l.CheckTimer(now)
	count := t.current(now, l.timerMode())
	t.divide = v & divideBits
	if count != 0 {
		t.load(count, now)
	}
}

// currentCount returns the current count register.
func (l *Local) currentCount() uint32 {
	if l.timer.period == 0 {
		return 0
	}
	return l.timer.current(l.set.env.Now(), l.timerMode())
}

// TSCDeadline returns IA32_TSC_DEADLINE: zero unless armed.
func (l *Local) TSCDeadline() uint64 {
	l.CheckTimer(l.set.env.Now())
	return l.timer.tsc
}

// SetTSCDeadline writes IA32_TSC_DEADLINE. Outside TSC-deadline mode the write
// is ignored; zero disarms; a value in the past expires at once.
func (l *Local) SetTSCDeadline(tsc uint64) {
	if l.timerMode() != timerTSCDeadline {
		return
	}
	if l.timer.deadline != 0 {
		l.CheckTimer(l.set.env.Now())
	}
	l.timer.tsc, l.timer.deadline = tsc, 0
	if tsc != 0 {
		l.timer.deadline = max(l.set.env.TSCToTime(l.vp, tsc), 1)
	}
}

// TSCMoved finds the deadline anew after the guest's time-stamp counter was
// written on this VP.
func (l *Local) TSCMoved() {
	if l.timer.tsc != 0 {
		l.timer.deadline = max(l.set.env.TSCToTime(l.vp, l.timer.tsc), 1)
	}
}

// TimerDeadline returns the time of the next timer interrupt, as Env.Now
// counts, or 0 when none is coming. While an earlier one is still requested, as
// with interrupts off, another would merge with it and is not worth an exit: a
// short period must not keep the guest from ever taking the first.
func (l *Local) TimerDeadline() int64 {
	if l.timer.deadline == 0 || l.lvt[lvtTimer].Load()&lvtMasked != 0 || l.irr.has(l.timerVector()) {
		return 0
	}
	return l.timer.deadline
}

// timerVector returns the vector in the timer's LVT entry.
func (l *Local) timerVector() irq.Vector {
	return irq.Vector(l.lvt[lvtTimer].Load() & lvtVector)
}

// CheckTimer requests the timer's vector if its deadline has come by now. A
// periodic timer keeps its phase, and periods that passed unseen are skipped,
// not made up for.
func (l *Local) CheckTimer(now int64) {
	t := &l.timer
	if t.deadline == 0 || now < t.deadline {
		return
	}
	switch l.timerMode() {
	case timerPeriodic:
		t.start = now - (now-t.start)%t.period
		t.deadline = t.start + t.period
		if short := now + minPeriod - t.deadline; t.period < minPeriod && short > 0 {
			t.deadline += (short + t.period - 1) / t.period * t.period
		}
	case timerTSCDeadline:
		// Rounding in the conversion must not let the guest see a counter that
		// has not reached its deadline.
		if l.set.env.TSC(l.vp) < t.tsc {
			t.deadline = max(l.set.env.TSCToTime(l.vp, t.tsc), now+1)
			return
		}
		t.stop()
	default:
		t.stop()
	}
	l.raise(lvtTimer)
}
