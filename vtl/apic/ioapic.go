package apic

import (
	"sync"

	"keel/vtl/irq"
)

// IOAPIC is an 82093AA with the EOI register of version 20h. It implements
// bus.MMIODevice and bus.Resetter; its methods may be called from any
// goroutine.
type IOAPIC struct {
	set   *Set
	lines [Pins]pinLine

	mu      sync.Mutex // guards the fields below
	index   uint8
	id      uint32
	table   [Pins]uint64
	asserts uint32 // levels of the pins
}

// pinLine is the wire into one pin.
type pinLine struct {
	io  *IOAPIC
	pin uint8
}

// SetLevel drives the wire.
func (p *pinLine) SetLevel(high bool) { p.io.setPin(p.pin, high) }

// NewIOAPIC returns an IOAPIC in power-on state that delivers to the local
// APICs of s and hears the ends of their interrupts.
func NewIOAPIC(s *Set) *IOAPIC {
	io := &IOAPIC{set: s}
	for pin := range io.lines {
		io.lines[pin] = pinLine{io, uint8(pin)}
	}
	io.Reset()
	s.OnEOI(io.endOfInterrupt)
	return io
}

// Line returns the wire into the pin that gsi names, or a wire to nowhere when
// there is no such pin. The level is assertion, not voltage: the polarity bit
// of the pin's entry is stored and means nothing.
func (io *IOAPIC) Line(gsi irq.GSI) irq.Line {
	if gsi >= Pins {
		return irq.Unconnected
	}
	return &io.lines[gsi]
}

// Reset masks all pins. Their levels persist, because the devices that drive
// them own them.
func (io *IOAPIC) Reset() {
	io.mu.Lock()
	defer io.mu.Unlock()
	io.index, io.id = 0, 0
	for pin := range io.table {
		io.table[pin] = rteMasked
	}
}

// ReadMMIO reads the register window. An access of any size sees the low bytes
// of a register; reserved offsets read as zero.
func (io *IOAPIC) ReadMMIO(offset uint64, _ int) uint64 {
	io.mu.Lock()
	defer io.mu.Unlock()
	switch offset {
	case ioRegSelect:
		return uint64(io.index)
	case ioRegWindow:
		return uint64(io.readIndirect())
	}
	return 0
}

// WriteMMIO writes the register window. A write of fewer than four bytes to
// the data window is ignored: it would tear a register.
func (io *IOAPIC) WriteMMIO(offset uint64, size int, value uint64) {
	io.mu.Lock()
	defer io.mu.Unlock()
	switch {
	case offset == ioRegSelect:
		io.index = uint8(value)
	case offset == ioRegWindow && size >= 4:
		io.writeIndirect(uint32(value))
	case offset == ioRegEOI:
		io.end(irq.Vector(value))
	default:
		io.set.refused.Add(1)
	}
}

// readIndirect reads the register that the index selects.
// Preconditions: mu is held.
func (io *IOAPIC) readIndirect() uint32 {
	switch io.index {
	case ioID, ioArbitration: // writing the ID loads the arbitration ID
		return io.id
	case ioVersion:
		return ioVersionValue
	}
	pin, shift, ok := io.entry()
	if !ok {
		return 0
	}
	return uint32(io.table[pin] >> shift)
}

// writeIndirect writes the register that the index selects.
// Preconditions: mu is held.
func (io *IOAPIC) writeIndirect(v uint32) {
	if io.index == ioID {
		io.id = v & ioIDBits
		return
	}
	pin, shift, ok := io.entry()
	if !ok {
		io.set.refused.Add(1)
		return
	}
	e := io.table[pin]
	e = e&^(0xFFFFFFFF<<shift) | uint64(v)<<shift
	e = e&rteWritable | io.table[pin]&rteRemoteIRR
	if !levelEntry(e) {
		// Software that knows no EOI register ends a level-triggered interrupt
		// by making the pin edge-triggered for a moment.
		e &^= rteRemoteIRR
	}
	io.table[pin] = e
	io.requestLevel(uint8(pin))
}

// entry decodes the index as half a redirection entry.
func (io *IOAPIC) entry() (pin int, shift uint, ok bool) {
	pin = (int(io.index) - ioTable) / 2
	return pin, uint(io.index&1) * 32, io.index >= ioTable && pin < Pins
}
