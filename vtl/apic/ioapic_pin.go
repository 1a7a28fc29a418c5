package apic

import "keel/vtl/irq"

// levelEntry reports whether an entry's pin is level-triggered. SMI, NMI, INIT
// and ExtINT are edges whatever the trigger bit says (82093AA §3.2.4).
func levelEntry(e uint64) bool {
	return e&rteLevel != 0 && DeliveryMode(e&rteMode>>rteModeShift) <= LowestPriority
}

// setPin drives a pin. A masked pin takes no notice of an edge; a level waits
// until the pin is unmasked.
func (io *IOAPIC) setPin(pin uint8, high bool) {
	io.mu.Lock()
	defer io.mu.Unlock()
	was := io.asserts>>pin&1 != 0
	if was == high {
		return
	}
	io.asserts ^= 1 << pin
	switch e := io.table[pin]; {
	case !high:
	case levelEntry(e):
		io.requestLevel(pin)
	case e&rteMasked == 0:
		io.send(e)
	}
}

// requestLevel sends the interrupt of a level-triggered pin that is asserted,
// unmasked and not waiting for the end of the last one.
// Preconditions: mu is held.
func (io *IOAPIC) requestLevel(pin uint8) {
	e := io.table[pin]
	if io.asserts>>pin&1 == 0 || e&(rteMasked|rteRemoteIRR) != 0 || !levelEntry(e) {
		return
	}
	if io.send(e) > 0 {
		io.table[pin] |= rteRemoteIRR
	}
}

// send makes a message of an entry and returns how many local APICs accepted
// it. Start-up is reserved in redirection entries.
func (io *IOAPIC) send(e uint64) int {
	m := Message{
		Dest:    wideDest(uint32(e>>rteDestShift), uint32(e>>rteExtendShift&rteExtend)),
		Logical: e&rteLogical != 0,
		Level:   levelEntry(e),
		Mode:    DeliveryMode(e & rteMode >> rteModeShift),
		Vector:  irq.Vector(e & rteVector),
	}
	if m.Mode == StartUp {
		io.set.malformed.Add(1)
		return 0
	}
	return io.set.Deliver(m)
}

// endOfInterrupt hears a local APIC end a level-triggered interrupt.
func (io *IOAPIC) endOfInterrupt(v irq.Vector) {
	io.mu.Lock()
	defer io.mu.Unlock()
	io.end(v)
}

// end clears remote IRR of the pins whose entries carry the vector. A pin that
// is still asserted interrupts again.
// Preconditions: mu is held.
func (io *IOAPIC) end(v irq.Vector) {
	for pin, e := range io.table {
		if e&rteRemoteIRR != 0 && irq.Vector(e&rteVector) == v {
			io.table[pin] &^= rteRemoteIRR
			io.requestLevel(uint8(pin))
		}
	}
}
