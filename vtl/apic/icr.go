package apic

import "keel/vtl/irq"

// Sent reports whether the VP has sent an interrupt to others since it was last
// asked.
func (l *Local) Sent() bool {
	sent := l.sent
	l.sent = false
	return sent
}

// ICR returns the interrupt command register in its xAPIC layout, which names the
// destination in the top byte, in either mode.
func (l *Local) ICR() uint64 {
	if l.base&baseX2 != 0 {
		return l.icr&0xFFFFFFFF | l.icr>>icrDestShift<<icrXDestShift
	}
	return l.icr
}

// WriteICR writes the interrupt command register in its xAPIC layout, in either mode.
func (l *Local) WriteICR(v uint64) {
	l.icr = v & (0xFF<<icrXDestShift | icrWritable)
	if l.base&baseX2 != 0 {
		l.icr = v&icrWritable | uint64(wideDest(uint32(v>>icrXDestShift), 0))<<icrDestShift
	}
	l.sendIPI()
}

// sendIPI executes the interrupt command register (SDM vol. 3, "Issuing
// Interprocessor Interrupts"). Combinations of shorthand and mode that the
// manual calls invalid do what their parts say: the guest reaches only itself.
func (l *Local) sendIPI() {
	m := Message{
		Logical: l.icr&icrLogical != 0,
		Mode:    DeliveryMode(l.icr >> icrModeShift & 7),
		Vector:  irq.Vector(l.icr & icrVector),
	}
	switch m.Mode {
	case Fixed, LowestPriority:
		if m.Vector < 16 {
			l.fail(esrSendIllegal)
			return
		}
	case INIT:
		// INIT level de-assert only synchronises arbitration IDs, and those
		// this fabric does without.
		if l.icr&icrLevel != 0 && l.icr&icrAssert == 0 {
			return
		}
	case SMI, NMI, StartUp:
	default: // remote read and ExtINT are reserved here
		l.set.malformed.Add(1)
		return
	}
	shorthand := int(l.icr >> icrShorthandShift & 3)
	switch shorthand {
	case shorthandSelf:
		if l.receive(m, true) == 0 {
			l.set.unclaimed.Add(1)
		}
		return
	case shorthandAll, shorthandOthers:
		m.Dest, m.Logical = Broadcast, false
	default:
		m.Dest = l.icrDest()
	}
	l.set.deliver(m, l, shorthand == shorthandOthers)
	l.sent = true
}

// icrDest returns the destination field in the layout of the current mode.
func (l *Local) icrDest() uint32 {
	if l.base&baseX2 != 0 {
		return uint32(l.icr >> icrDestShift)
	}
	return wideDest(uint32(l.icr>>icrXDestShift), 0)
}

// selfIPI executes a write of the x2APIC self-IPI register.
func (l *Local) selfIPI(v irq.Vector) {
	if v < 16 {
		l.fail(esrSendIllegal)
		return
	}
	l.receive(Message{Mode: Fixed, Vector: v}, true)
}
