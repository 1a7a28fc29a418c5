package apic

import "keel/vtl/irq"

// Bits of Local.events; the vector of a start-up IPI sits in bits 8 to 15.
const (
	eventINIT = 1 << iota
	eventSIPI
	eventNMI

	eventVectorShift = 8
)

// Events are the things other than vectors that a VP has to do. When INIT and
// SIPI come together, INIT came first.
type Events struct {
	INIT bool
	NMI  bool
	// SIPI is a start-up IPI, which a VP that does not wait for one ignores.
	// Execution starts at SIPIVector << 12.
	SIPI       bool
	SIPIVector uint8
}

// Pending takes the events that have arrived. The VP loop calls it before it
// looks at vectors, on every turn: later arrivals kick the VP again.
func (l *Local) Pending() Events {
	if l.arrived.Load() {
		l.arrived.Store(false)
	}
	if l.events.Load() == 0 {
		return Events{}
	}
	e := l.events.Swap(0)
	return Events{
		INIT:       e&eventINIT != 0,
		NMI:        e&eventNMI != 0,
		SIPI:       e&eventSIPI != 0,
		SIPIVector: uint8(e >> eventVectorShift),
	}
}

// notify tells the VP to look. While it has not looked, one kick is enough.
func (l *Local) notify() {
	if !l.arrived.Load() && !l.arrived.Swap(true) {
		l.set.env.Kick(l.vp)
	}
}

// postINIT records an INIT. A start-up IPI before it came too early and is
// lost, as it is for a processor that does not wait for one.
func (l *Local) postINIT() {
	for {
		old := l.events.Load()
		if l.events.CompareAndSwap(old, old&eventNMI|eventINIT) {
			return
		}
	}
}

// postSIPI records a start-up IPI; the first of several starts the VP.
func (l *Local) postSIPI(v irq.Vector) {
	for {
		old := l.events.Load()
		if old&eventSIPI != 0 || l.events.CompareAndSwap(old, old|eventSIPI|uint32(v)<<eventVectorShift) {
			return
		}
	}
}
