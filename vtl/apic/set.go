// Package apic emulates the interrupt controllers that every multiprocessor
// guest needs: one local APIC for each VP (xAPIC and x2APIC), the fabric that
// carries messages between them, and the IOAPIC.
//
// A local APIC belongs to the thread that runs its VP: only that thread calls
// the methods of Local, unless a method says otherwise. What other threads
// touch (requests, events, pins, the destination match) is atomic, so that
// neither delivery nor the exit path takes a lock or allocates.
//
// Specifications: Intel SDM vol. 3, chapter "Advanced Programmable Interrupt
// Controller (APIC)"; 82093AA I/O APIC datasheet (290566-001), with the EOI
// register of version 20h; MultiProcessor Specification 1.4.
package apic

import (
	"sync/atomic"

	"keel/hcl/abi/x86"
	"keel/vtl/irq"
)

// TimerHz is the frequency of the local APIC timer's input clock before the
// divider, in hertz. CPUID leaf 15h must state it as the crystal frequency.
const TimerHz = 1_000_000_000

// Env is what the local APICs need of the machine around them.
type Env interface {
	// Now is monotonic time in nanoseconds.
	Now() int64
	// Kick makes a VP leave the guest, or wake up, and call Local.Pending. A
	// kick that finds the VP between Pending and the guest must make it turn
	// back. Any goroutine may call it.
	Kick(vp int)
	// TSC is the guest's time-stamp counter on that VP now.
	TSC(vp int) uint64
	// TSCToTime converts a value of the guest's time-stamp counter on that VP
	// to the time of Now. It saturates instead of overflowing.
	TSCToTime(vp int, tsc uint64) int64
}

// Set is the local APICs of a machine and the fabric between them. Its methods
// may be called from any goroutine.
type Set struct {
	env    Env
	ids    []x86.APICID
	locals []*Local
	eoi    []func(irq.Vector)

	turn      atomic.Uint32 // rotates lowest-priority arbitration
	unclaimed atomic.Uint64
	malformed atomic.Uint64
	refused   atomic.Uint64
	smis      atomic.Uint64
}

// Stats counts what the guest did in vain.
type Stats struct {
	Unclaimed uint64 // messages that no local APIC accepted
	Malformed uint64 // messages with a reserved mode or address
	Refused   uint64 // register accesses that the architecture forbids
	SMIs      uint64 // system management interrupts; there is no SMM
}

// NewSet returns a local APIC in power-on state for every APIC ID; the index
// of an ID is the number of its VP, and VP 0 is the bootstrap processor.
func NewSet(ids []x86.APICID, env Env) *Set {
	s := &Set{env: env, ids: append([]x86.APICID(nil), ids...)}
	for vp, id := range s.ids {
		l := &Local{set: s, vp: vp, id: id, bsp: vp == 0}
		l.Reset()
		s.locals = append(s.locals, l)
	}
	return s
}

// Local returns the local APIC of a VP.
func (s *Set) Local(vp int) *Local { return s.locals[vp] }

// OnEOI registers f to be called, on the VP's thread, with the vector of every
// level-triggered interrupt that a VP ends. All registrations precede the
// start of the VPs.
func (s *Set) OnEOI(f func(irq.Vector)) { s.eoi = append(s.eoi, f) }

// SetLINT0 drives the LINT0 pins of all local APICs: the output of the 8259
// pair.
func (s *Set) SetLINT0(high bool) {
	for _, l := range s.locals {
		l.setLINT(0, high)
	}
}

// NMI pulses the LINT1 pins of all local APICs: the machine's NMI button.
func (s *Set) NMI() {
	for _, l := range s.locals {
		l.setLINT(1, true)
		l.setLINT(1, false)
	}
}

// Stats returns the counters.
func (s *Set) Stats() Stats {
	return Stats{
		Unclaimed: s.unclaimed.Load(),
		Malformed: s.malformed.Load(),
		Refused:   s.refused.Load(),
		SMIs:      s.smis.Load(),
	}
}
