package apic

import "keel/vtl/irq"

// Entries of the local vector table, in the order of their registers. Nothing
// drives the thermal and performance entries; they are registers only.
const (
	lvtTimer = iota
	lvtThermal
	lvtPMI
	lvtLINT0
	lvtLINT1
	lvtError
	lvtCount
)

// Bits of Local.pins.
const (
	pinHigh   = 1 << iota
	pinRemote // a level-triggered request of the pin has not ended
	pinExtINT // an IOAPIC passed the 8259's request on (LINT0 only)
)

// lvtWritable are the bits of each entry that software can change.
var lvtWritable = [lvtCount]uint32{
	lvtTimer:   lvtVector | lvtMasked | lvtTimerMode,
	lvtThermal: lvtVector | lvtMasked | lvtMode,
	lvtPMI:     lvtVector | lvtMasked | lvtMode,
	lvtLINT0:   lvtVector | lvtMasked | lvtMode | lvtPolarity | lvtLevel,
	lvtLINT1:   lvtVector | lvtMasked | lvtMode | lvtPolarity | lvtLevel,
	lvtError:   lvtVector | lvtMasked,
}

// readLVT returns an entry with its read-only bits.
func (l *Local) readLVT(entry int) uint32 {
	v := l.lvt[entry].Load()
	if pin := entry - lvtLINT0; (pin == 0 || pin == 1) && l.pins[pin].Load()&pinRemote != 0 {
		v |= lvtRemoteIRR
	}
	return v
}

// writeLVT sets an entry. Software cannot unmask it while the APIC is disabled
// by software.
func (l *Local) writeLVT(entry int, v uint32) {
	v &= lvtWritable[entry]
	if l.svr&svrEnable == 0 {
		v |= lvtMasked
	}
	switch entry {
	case lvtTimer:
		l.writeTimerLVT(v)
	case lvtLINT0, lvtLINT1:
		l.lvt[entry].Store(v)
		pin := entry - lvtLINT0
		if !levelPin(v) {
			l.pins[pin].And(^uint32(pinRemote))
		}
		l.requestLevel(pin)
	default:
		l.lvt[entry].Store(v)
	}
}

// writeSVR sets the spurious-interrupt vector register; disabling by software
// masks every entry.
func (l *Local) writeSVR(v uint32) {
	l.svr = v & (svrVector | svrEnable | svrFocus)
	if l.svr&svrEnable == 0 {
		for i := range l.lvt {
			l.writeLVT(i, l.lvt[i].Load())
		}
	}
	l.publish()
}

// raise does what an entry says on an edge of its source. Any goroutine may
// call it; the caller notifies the VP where it must.
func (l *Local) raise(entry int) {
	v := l.lvt[entry].Load()
	if v&lvtMasked != 0 {
		return
	}
	mode := Fixed
	if entry != lvtTimer && entry != lvtError {
		mode = DeliveryMode(v & lvtMode >> lvtModeShift)
	}
	switch mode {
	case Fixed:
		l.accept(irq.Vector(v&lvtVector), false)
	case NMI:
		l.events.Or(eventNMI)
	case INIT:
		l.postINIT()
	case SMI:
		l.set.smis.Add(1)
	case LowestPriority, StartUp, ExtINT:
		// Reserved here; ExtINT is a level that ExtINTPending looks at.
	}
}

// levelPin reports whether an entry asks for level-triggered vectors. NMI, SMI
// and INIT are edges whatever the trigger bit says.
func levelPin(v uint32) bool {
	return v&lvtLevel != 0 && v&lvtMode == 0
}

// setLINT drives a pin. The level is assertion, not voltage: the polarity bit
// is stored and means nothing. Any goroutine may call it, one at a time.
func (l *Local) setLINT(pin int, high bool) {
	if !high {
		l.pins[pin].And(^uint32(pinHigh | pinExtINT))
		return
	}
	old := l.pins[pin].Or(pinHigh)
	v := l.lvt[lvtLINT0+pin].Load()
	switch {
	case old&pinHigh != 0:
		return
	case !l.enabled():
		if pin == 1 { // without an APIC the pins are INTR and NMI
			l.events.Or(eventNMI)
		}
	case v&lvtMasked != 0 && old&pinExtINT == 0:
		return
	case levelPin(v):
		l.requestLevel(pin)
	default:
		l.raise(lvtLINT0 + pin)
	}
	l.notify()
}

// requestLevel requests the vector of a level-triggered pin that is high and
// has no request under way.
func (l *Local) requestLevel(pin int) {
	v := l.lvt[lvtLINT0+pin].Load()
	if v&lvtMasked != 0 || !levelPin(v) {
		return
	}
	for {
		old := l.pins[pin].Load()
		if old&(pinHigh|pinRemote) != pinHigh {
			return
		}
		if l.pins[pin].CompareAndSwap(old, old|pinRemote) {
			l.accept(irq.Vector(v&lvtVector), true)
			return
		}
	}
}

// endLINT ends the request of a level-triggered pin and makes the next one if
// the pin is still high.
func (l *Local) endLINT(v irq.Vector) {
	for pin := range l.pins {
		e := l.lvt[lvtLINT0+pin].Load()
		if levelPin(e) && irq.Vector(e&lvtVector) == v {
			l.pins[pin].And(^uint32(pinRemote))
			l.requestLevel(pin)
		}
	}
}

// ExtINTPending reports whether the VP has to take an interrupt from the 8259
// pair: its output is high, and LINT0 passes it on, or an IOAPIC did, or the
// local APIC is disabled so that the wire leads to the core.
func (l *Local) ExtINTPending() bool {
	pin := l.pins[0].Load()
	if pin&pinHigh == 0 {
		return false
	}
	if pin&pinExtINT != 0 || l.base&baseEnable == 0 {
		return true
	}
	v := l.lvt[lvtLINT0].Load()
	return v&(lvtMasked|lvtMode) == uint32(ExtINT)<<lvtModeShift
}
