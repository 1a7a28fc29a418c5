package apic

import (
	"testing"

	"keel/hcl/abi/x86"
)

// exitPaths are what VPs do on hot exits; none may allocate.
func exitPaths(tb testing.TB) map[string]func() {
	tb.Helper()
	s, env := newSet(4)
	io := NewIOAPIC(s)
	l := s.Local(0)
	l.write(regLVTTimer, timerPeriodic<<lvtTimerShift|timerVector)
	io.route(4, 0, rteLevel|0x44)
	x, _ := newSet(4)
	for _, l := range x.locals {
		l.x2(tb)
	}
	deadline, _ := newLocal()
	deadline.write(regLVTTimer, timerTSCDeadline<<lvtTimerShift|timerVector)
	drain := func(s *Set) {
		for _, l := range s.locals {
			l.Pending()
		}
	}
	return map[string]func(){
		"EOI": func() {
			s.Deliver(Message{Vector: 0x60})
			l.Pending()
			l.take()
			l.WriteMMIO(regEOI<<4, 4, 0)
		},
		"level EOI": func() {
			io.Line(4).SetLevel(true)
			l.Pending()
			l.take()
			io.Line(4).SetLevel(false)
			l.WriteMMIO(regEOI<<4, 4, 0)
		},
		"IPI": func() {
			l.WriteMMIO(regICRHigh<<4, 4, 2<<24)
			l.WriteMMIO(regICR<<4, 4, 0x40FB)
			drain(s)
		},
		"x2APIC IPI": func() {
			x.Local(0).WriteMSR(x86.X2APIC_MSR_FIRST+regICR, 2<<32|0x40FB)
			drain(x)
		},
		"IPI to all others": func() {
			l.WriteMMIO(regICR<<4, 4, 0xC40FB)
			drain(s)
		},
		"MSI": func() {
			s.SignalMSI(0xFEE03000, 0x71)
			drain(s)
		},
		"timer arm": func() {
			env.now += 1000
			l.WriteMMIO(regInitial<<4, 4, 100_000)
		},
		"TSC deadline arm": func() { deadline.SetTSCDeadline(deadline.set.env.TSC(0) + 50_000) },
		"loop turn": func() {
			l.SetTPR(0)
			l.Pending()
			l.CheckTimer(env.now)
			l.ExtINTPending()
			l.NextVector()
			l.TimerDeadline()
		},
	}
}

func TestExitPathDoesNotAllocate(t *testing.T) {
	for name, f := range exitPaths(t) {
		check(t, name+": allocations", testing.AllocsPerRun(100, f), 0)
	}
}

func BenchmarkExitPath(b *testing.B) {
	for name, f := range exitPaths(b) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f()
			}
		})
	}
}
