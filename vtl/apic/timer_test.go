package apic

import (
	"fmt"
	"testing"
)

const timerVector = 0x50

// at moves time and lets the timer look.
func at(l *Local, env *fakeEnv, now int64) {
	env.now = now
	l.CheckTimer(now)
}

// fired takes the timer's vector and ends it.
func fired(l *Local) bool {
	ok := l.take() == timerVector
	if ok {
		l.write(regEOI, 0)
	}
	return ok
}

// TestDivideConfiguration is the table of SDM vol. 3, "Divide Configuration
// Register".
func TestDivideConfiguration(t *testing.T) {
	for _, c := range []struct {
		dcr uint32
		div int64
	}{{0x0, 2}, {0x1, 4}, {0x2, 8}, {0x3, 16}, {0x8, 32}, {0x9, 64}, {0xA, 128}, {0xB, 1}} {
		l, env := newLocal()
		l.write(regDivide, c.dcr)
		l.write(regLVTTimer, timerVector)
		l.write(regInitial, 1000)
		name := fmt.Sprintf("divide by %d", c.div)
		check(t, name+": deadline", l.TimerDeadline(), env.now+1000*c.div)
		env.now += 250 * c.div
		check(t, name+": count", l.read(regCurrent), 750)
	}
}

func TestOneShot(t *testing.T) {
	l, env := newLocal()
	l.write(regDivide, 0xB)
	l.write(regLVTTimer, timerVector)
	l.write(regInitial, 100_000)
	check(t, "count at once", l.read(regCurrent), 100_000)
	at(l, env, 104_999)
	check(t, "early", fired(l), false)
	check(t, "count before the end", l.read(regCurrent), 1)
	at(l, env, 105_000)
	check(t, "due", fired(l), true)
	check(t, "count after the end", l.read(regCurrent), 0)
	check(t, "deadline", l.TimerDeadline(), 0)
	at(l, env, 999_999)
	check(t, "once", fired(l), false)
	check(t, "initial count", l.read(regInitial), 100_000)

	l.write(regInitial, 100)
	l.write(regInitial, 0)
	check(t, "stopped", l.TimerDeadline(), 0)
	at(l, env, 2_000_000)
	check(t, "no interrupt", fired(l), false)
}

func TestPeriodic(t *testing.T) {
	l, env := newLocal()
	l.write(regDivide, 0xB)
	l.write(regLVTTimer, timerPeriodic<<lvtTimerShift|timerVector)
	l.write(regInitial, 1_000_000)
	for i := range int64(5) {
		late := i * 1000 // lateness must not add up
		at(l, env, 1_005_000+i*1_000_000+late)
		check(t, "tick", fired(l), true)
		check(t, "next", l.TimerDeadline(), 2_005_000+i*1_000_000)
		check(t, "count", l.read(regCurrent), uint32(1_000_000-late))
	}
	at(l, env, 100_005_500)
	check(t, "after a stall", fired(l), true)
	l.CheckTimer(env.now)
	check(t, "no burst", fired(l), false)
	check(t, "phase", l.TimerDeadline(), 101_005_000)
}

func TestShortPeriod(t *testing.T) {
	l, env := newLocal()
	l.write(regDivide, 0xB)
	l.write(regLVTTimer, timerPeriodic<<lvtTimerShift|timerVector)
	l.write(regInitial, 7)
	for range 100 {
		last := l.TimerDeadline()
		at(l, env, last)
		check(t, "tick", fired(l), true)
		next := l.TimerDeadline()
		if next < last+minPeriod || next >= last+minPeriod+7 || (next-5000)%7 != 0 {
			t.Fatalf("deadline %d follows %d", next, last)
		}
	}
	env.now++
	check(t, "count", l.read(regCurrent), 6)
}

// TestPendingTimer: while a request of the timer waits, another expiry merges
// with it and is no reason to leave the guest.
func TestPendingTimer(t *testing.T) {
	l, env := newLocal()
	l.write(regDivide, 0xB)
	l.write(regLVTTimer, timerVector|1<<lvtTimerShift)
	l.write(regInitial, 100_000)
	start := l.TimerDeadline() - 100_000
	at(l, env, start+100_000)
	check(t, "deadline while requested", l.TimerDeadline(), 0)
	env.now = start + 350_000
	check(t, "one request for three periods", fired(l), true)
	check(t, "then none", fired(l), false)
	check(t, "the phase is kept", l.TimerDeadline(), start+400_000)
}

func TestMaskedTimer(t *testing.T) {
	l, env := newLocal()
	l.write(regDivide, 0xB)
	l.write(regLVTTimer, lvtMasked|timerVector)
	l.write(regInitial, 1000)
	check(t, "nothing to wake for", l.TimerDeadline(), 0)
	env.now += 400
	check(t, "counts", l.read(regCurrent), 600)
	l.write(regLVTTimer, timerVector)
	check(t, "unmasked in time", l.TimerDeadline(), env.now+600)
	l.write(regLVTTimer, lvtMasked|timerVector)
	env.now += 600
	l.write(regLVTTimer, timerVector)
	at(l, env, env.now+1000)
	check(t, "an expiry under the mask is lost", fired(l), false)
}

func TestTimerExpiryBeforeReprogramming(t *testing.T) {
	for name, program := range map[string]func(*Local){
		"initial count": func(l *Local) { l.write(regInitial, 1) },
		"divide":        func(l *Local) { l.write(regDivide, 0) },
		"mask":          func(l *Local) { l.write(regLVTTimer, lvtMasked|timerVector) },
		"disable":       func(l *Local) { l.write(regSVR, 0xFF) },
	} {
		l, env := newLocal()
		l.write(regLVTTimer, timerVector)
		l.write(regInitial, 10)
		env.now += 1000
		program(l)
		check(t, name, fired(l), true)
	}
}

func TestDivideChangeWhileCounting(t *testing.T) {
	for _, mode := range []uint32{timerOneShot, timerPeriodic} {
		l, env := newLocal()
		l.write(regDivide, 0xB)
		l.write(regLVTTimer, mode<<lvtTimerShift|timerVector)
		l.write(regInitial, 1000)
		env.now += 400
		l.write(regDivide, 0x1)
		check(t, "count goes on", l.read(regCurrent), 600)
		check(t, "deadline", l.TimerDeadline(), env.now+600*4)
		env.now += 1200
		check(t, "new rate", l.read(regCurrent), 300)
	}
}

func TestTimerModeChange(t *testing.T) {
	l, env := newLocal()
	l.write(regDivide, 0xB)
	l.write(regLVTTimer, timerPeriodic<<lvtTimerShift|timerVector)
	l.write(regInitial, 100_000)
	at(l, env, 235_000)
	check(t, "tick", fired(l), true)
	l.write(regLVTTimer, timerVector)
	check(t, "count goes on", l.read(regCurrent), 70_000)
	at(l, env, 305_000)
	check(t, "last tick", fired(l), true)
	check(t, "one-shot now", l.TimerDeadline(), 0)

	for _, mode := range []uint32{timerTSCDeadline, timerReserved} {
		l.write(regInitial, 100_000)
		l.write(regLVTTimer, mode<<lvtTimerShift|timerVector)
		check(t, "disarmed", l.TimerDeadline(), 0)
		check(t, "count", l.read(regCurrent), 0)
		l.write(regInitial, 500)
		check(t, "initial count ignored", l.TimerDeadline(), 0)
		check(t, "initial count kept", l.read(regInitial), 100_000)
		l.write(regLVTTimer, timerVector)
	}
}

func TestTSCDeadline(t *testing.T) {
	l, env := newLocal()
	l.SetTSCDeadline(500_000)
	check(t, "ignored in one-shot mode", l.TSCDeadline(), 0)
	l.write(regLVTTimer, timerTSCDeadline<<lvtTimerShift|timerVector)
	l.SetTSCDeadline(500_001)
	check(t, "armed", l.TSCDeadline(), 500_001)
	check(t, "deadline", l.TimerDeadline(), 249_000)
	at(l, env, 249_000) // TSC 500,000: the conversion rounded down
	check(t, "never early", fired(l), false)
	check(t, "looks again", l.TimerDeadline(), 249_001)
	at(l, env, 249_001)
	check(t, "due", fired(l), true)
	check(t, "disarmed", l.TSCDeadline(), 0)

	l.SetTSCDeadline(1)
	at(l, env, env.now)
	check(t, "in the past", fired(l), true)
	l.SetTSCDeadline(^uint64(0))
	if l.TimerDeadline() < 1<<61 {
		t.Errorf("far deadline = %d", l.TimerDeadline())
	}
	l.SetTSCDeadline(0)
	check(t, "zero disarms", l.TimerDeadline(), 0)
	l.SetTSCDeadline(900_000)
	l.write(regLVTTimer, timerVector)
	check(t, "leaving the mode disarms", l.TimerDeadline(), 0)
	l.write(regLVTTimer, timerTSCDeadline<<lvtTimerShift|timerVector)
	check(t, "and forgets", l.TSCDeadline(), 0)
}

func TestTSCMoved(t *testing.T) {
	l, env := newLocal()
	l.TSCMoved()
	check(t, "nothing armed", l.TimerDeadline(), 0)
	l.write(regLVTTimer, timerTSCDeadline<<lvtTimerShift|timerVector)
	l.SetTSCDeadline(1_000_000)
	check(t, "deadline", l.TimerDeadline(), 499_000)
	env.tsc = 600_000
	l.TSCMoved()
	check(t, "TSC moved forward", l.TimerDeadline(), 199_000)
	env.tsc = -200_000
	at(l, env, 199_000)
	check(t, "TSC moved back unseen", fired(l), false)
	check(t, "later", l.TimerDeadline(), 599_000)
}
