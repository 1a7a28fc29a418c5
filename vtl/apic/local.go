package apic

import (
	"sync/atomic"

	"keel/hcl/abi/x86"
	"keel/vtl/irq"
)

// Local is the local APIC of one VP. Its methods belong to the thread of that
// VP unless they say otherwise.
type Local struct {
	set *Set
	vp  int
	id  x86.APICID
	bsp bool

	// Written by senders on any thread.
	irr     sharedBitmap
	tmr     sharedBitmap
	events  atomic.Uint32
	arrived atomic.Bool
	pins    [2]atomic.Uint32 // LINT0, LINT1
	errors  atomic.Uint32    // errors since the last write of the ESR

	// Written by the VP's thread, read by senders.
	ident atomic.Uint32
	tpr   atomic.Uint32
	lvt   [lvtCount]atomic.Uint32

	// The VP's own.
	isr   bitmap
	base  uint64
	svr   uint32
	ldr   uint32
	dfr   uint32
	esr   uint32
	icr   uint64
	sent  bool // an interrupt to another VP, since Sent was asked
	timer timer
}

// ID returns the APIC ID. Any goroutine may call it.
func (l *Local) ID() x86.APICID { return l.id }

// BSP reports whether the VP is the bootstrap processor. Any goroutine may
// call it.
func (l *Local) BSP() bool { return l.bsp }

// Reset puts the local APIC into its power-on state: in xAPIC mode at the
// default address, disabled by software. Levels of the pins persist, because
// the devices that drive them own them.
func (l *Local) Reset() {
	l.base = x86.APIC_DEFAULT_BASE | baseEnable
	if l.bsp {
		l.base |= baseBSP
	}
	l.events.Store(0)
	l.arrived.Store(false)
	l.Init()
}

// Init does what an INIT does: everything but the APIC ID, IA32_APIC_BASE and
// events that followed the INIT takes its power-on value (SDM vol. 3, "Local
// APIC State After It Receives an INIT-Deassert").
func (l *Local) Init() {
	l.irr.reset()
	l.tmr.reset()
	l.isr = bitmap{}
	l.tpr.Store(0)
	l.svr, l.ldr, l.dfr = svrReset, 0, ^uint32(0)
	l.esr, l.icr = 0, 0
	l.errors.Store(0)
	for i := range l.lvt {
		l.lvt[i].Store(lvtMasked)
	}
	for i := range l.pins {
		l.pins[i].And(pinHigh)
	}
	l.timer = timer{}
	l.publish()
}

// VirtualWire puts the local APIC into the state in which firmware hands over
// the bootstrap processor: enabled, with the 8259 pair on LINT0 and NMI on
// LINT1 (MultiProcessor Specification 1.4, §3.6.2.2).
func (l *Local) VirtualWire() {
	l.writeSVR(svrEnable | 0x0F)
	l.writeLVT(lvtLINT0, uint32(ExtINT)<<lvtModeShift)
	l.writeLVT(lvtLINT1, uint32(NMI)<<lvtModeShift)
}

// accept puts a vector into the IRR and reports whether the VP has to look: a
// request that merges with an earlier one changes nothing. Any goroutine may
// call it. TMR precedes IRR so that the VP never sees the request with a stale
// trigger mode.
func (l *Local) accept(v irq.Vector, level bool) bool {
	if v < 16 {
		l.fail(esrReceiveIllegal)
		return true
	}
	if level {
		l.tmr.set(v)
	} else if l.tmr.has(v) {
		l.tmr.clear(v)
	}
	return l.irr.set(v)
}

// ppr computes the processor priority (SDM vol. 3, "Task and Processor
// Priorities").
func (l *Local) ppr() uint32 {
	tpr := l.tpr.Load()
	if v, ok := l.isr.highest(); ok && uint32(v)&0xF0 > tpr&0xF0 {
		return uint32(v) & 0xF0
	}
	return tpr
}

// NextVector returns the highest requested vector if its priority class is
// above the processor priority.
func (l *Local) NextVector() (irq.Vector, bool) {
	v, ok := l.irr.highest()
	if !ok || uint32(v)>>4 <= l.ppr()>>4 || l.base&baseEnable == 0 {
		return 0, false
	}
	return v, true
}

// Acknowledge moves the highest deliverable vector from IRR to ISR and returns
// it. When none is deliverable (any more), it returns the spurious vector,
// which no ISR bit stands for.
func (l *Local) Acknowledge() irq.Vector {
	v, ok := l.NextVector()
	if !ok {
		return irq.Vector(l.svr & svrVector)
	}
	if l.timer.deadline != 0 && v == l.timerVector() {
		// What expired while the request was pending is part of it.
		l.CheckTimer(l.set.env.Now())
	}
	l.irr.clear(v)
	l.isr.set(v)
	return v
}

// EndOfInterrupt clears the highest ISR bit and tells the IOAPICs when that
// was a level-triggered interrupt.
func (l *Local) EndOfInterrupt() {
	v, ok := l.isr.highest()
	if !ok {
		return
	}
	l.isr.clear(v)
	if !l.tmr.has(v) {
		return
	}
	for _, f := range l.set.eoi {
		f(v)
	}
	l.endLINT(v)
}

// Lone reports whether an edge-triggered interrupt is the only one in service and
// none is requested: then nothing depends on when the guest ends it.
func (l *Local) Lone() bool {
	v, ok := l.isr.highest()
	if !ok || l.tmr.has(v) {
		return false
	}
	others := l.isr
	others.clear(v)
	_, more := others.highest()
	_, requested := l.irr.highest()
	return !more && !requested
}

// TPR returns the task priority register.
func (l *Local) TPR() uint8 { return uint8(l.tpr.Load()) }

// WriteTPR writes the task priority register.
func (l *Local) WriteTPR(v uint8) { l.tpr.Store(uint32(v)) }

// CR8 returns the task priority class, the guest's CR8.
func (l *Local) CR8() uint8 { return l.TPR() >> 4 }

// SetTPR takes the guest's CR8 as the VP left it. A class that did not change
// keeps the subclass that the guest wrote to the register.
func (l *Local) SetTPR(cr8 uint8) {
	if cr8 &= 0xF; cr8 != l.CR8() {
		l.tpr.Store(uint32(cr8) << 4)
	}
}
