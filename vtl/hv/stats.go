package hv

import "sync/atomic"

// Stats counts what the guest did, and what it did in vain.
type Stats struct {
	Hypercalls     uint64 // all of them
	CallsRefused   uint64 // that ended with another status than success
	MSRsRefused    uint64 // accesses that raised #GP
	Messages       uint64 // put into a slot of a SIM page
	MessagesBusy   uint64 // refused because a queue was full
	Events         uint64 // event flags set that had been clear
	TimersExpired  uint64
	TimersMissed   uint64 // expiries of periodic timers that were skipped
	IPIs           uint64 // interrupts sent by hypercall
	Flushes        uint64 // TLB flushes asked for
	CrashesIgnored uint64 // crash reports beyond the bound
}

// counters are Stats while the machine runs.
type counters struct {
	hypercalls, callsRefused, msrsRefused      atomic.Uint64
	messages, messagesBusy, events             atomic.Uint64
	timersExpired, timersMissed, ipis, flushes atomic.Uint64
	crashesIgnored                             atomic.Uint64
}

// Stats returns the counters.
func (h *Hypervisor) Stats() Stats {
	s := &h.stats
	return Stats{
		Hypercalls:     s.hypercalls.Load(),
		CallsRefused:   s.callsRefused.Load(),
		MSRsRefused:    s.msrsRefused.Load(),
		Messages:       s.messages.Load(),
		MessagesBusy:   s.messagesBusy.Load(),
		Events:         s.events.Load(),
		TimersExpired:  s.timersExpired.Load(),
		TimersMissed:   s.timersMissed.Load(),
		IPIs:           s.ipis.Load(),
		Flushes:        s.flushes.Load(),
		CrashesIgnored: s.crashesIgnored.Load(),
	}
}
