package apic

import (
	"fmt"
	"testing"

	"keel/vtl/irq"
)

func newIOAPIC(vps int) (*IOAPIC, *Set) {
	s, _ := newSet(vps)
	return NewIOAPIC(s), s
}

func (io *IOAPIC) write(index int, v uint32) {
	io.WriteMMIO(ioRegSelect, 4, uint64(index))
	io.WriteMMIO(ioRegWindow, 4, uint64(v))
}

func (io *IOAPIC) read(index int) uint32 {
	io.WriteMMIO(ioRegSelect, 4, uint64(index))
	return uint32(io.ReadMMIO(ioRegWindow, 4))
}

// route programs a pin, upper half first as operating systems do.
func (io *IOAPIC) route(pin int, high, low uint32) {
	io.write(ioTable+2*pin+1, high)
	io.write(ioTable+2*pin, low)
}

func TestIOAPICRegisters(t *testing.T) {
	io, _ := newIOAPIC(1)
	for pin := range Pins {
		check(t, fmt.Sprintf("pin %d after reset", pin), io.read(ioTable+2*pin), 0x10000)
	}
	for _, c := range []struct {
		name        string
		index       int
		reset, ones uint32
	}{
		{"ID", 0, 0, 0x0F000000},
		{"version", 1, 0x00170020, 0x00170020},
		{"arbitration", 2, 0, 0},
		{"reserved", 3, 0, 0},
		{"first entry, low", 0x10, 0x10000, 0x1AFFF},
		{"first entry, high", 0x11, 0, 0xFFFE0000},
		{"last entry, low", 0x3E, 0x10000, 0x1AFFF},
		{"last entry, high", 0x3F, 0, 0xFFFE0000},
		{"beyond the table", 0x40, 0, 0},
		{"last index", 0xFF, 0, 0},
	} {
		io.Reset()
		check(t, c.name+" after reset", io.read(c.index), c.reset)
		io.write(c.index, 0xFFFFFFFF)
		check(t, c.name+" after ones", io.read(c.index), c.ones)
	}
	io.write(ioID, 0x05000000)
	check(t, "arbitration follows the ID", io.read(ioArbitration), 0x05000000)
	io.Reset()
	check(t, "ID after reset", io.read(ioID), 0)
}

func TestIOAPICOddAccesses(t *testing.T) {
	io, s := newIOAPIC(1)
	io.route(3, 0, 0x10042)
	io.WriteMMIO(ioRegSelect, 1, 0x16)
	io.WriteMMIO(ioRegWindow, 1, 0)
	io.WriteMMIO(ioRegWindow, 2, 0)
	check(t, "torn writes", io.ReadMMIO(ioRegWindow, 4), 0x10042)
	io.WriteMMIO(ioRegWindow, 8, 0xFFFFFFFF_00010043)
	check(t, "wide write", io.ReadMMIO(ioRegWindow, 8), 0x10043)
	check(t, "index", io.ReadMMIO(ioRegSelect, 4), 0x16)
	for _, offset := range []uint64{1, 4, 0x0C, 0x11, 0x14, 0x20, 0xFFC} {
		io.WriteMMIO(offset, 4, 0xFFFFFFFF)
		check(t, fmt.Sprintf("offset %#x", offset), io.ReadMMIO(offset, 4), 0)
	}
	check(t, "refused", s.Stats().Refused, 9)
	io.Line(Pins).SetLevel(true) // no such pin: leads nowhere
	check(t, "pins", io.asserts, 0)
}

func TestIOAPICEdge(t *testing.T) {
	io, s := newIOAPIC(2)
	l, line := s.Local(1), io.Line(4)
	io.route(4, 1<<24, 0x10044)
	line.SetLevel(true)
	io.route(4, 1<<24, 0x44)
	check(t, "an edge under the mask is lost", l.take(), 0)
	line.SetLevel(true)
	check(t, "no edge", l.take(), 0)
	line.SetLevel(false)
	check(t, "falling edge", l.take(), 0)
	irq.Pulse(line)
	check(t, "rising edge", l.take(), 0x44)
	check(t, "TMR", l.tmr.has(0x44), false)
	irq.Pulse(line)
	irq.Pulse(line)
	l.write(regEOI, 0)
	check(t, "coalesced", l.take(), 0x44)
	l.write(regEOI, 0)
	check(t, "once", l.take(), 0)
	check(t, "no remote IRR", io.read(ioTable+8), 0x44)
}

func TestIOAPICLevel(t *testing.T) {
	const low, irr = 0x18044 &^ rteMasked, rteRemoteIRR
	io, s := newIOAPIC(2)
	l, line := s.Local(1), io.Line(9)
	line.SetLevel(true)
	io.route(9, 1<<24, low)
	check(t, "unmasking finds the pin asserted", l.take(), 0x44)
	check(t, "remote IRR", io.read(ioTable+18), low|irr)
	line.SetLevel(false)
	line.SetLevel(true)
	check(t, "no second message before EOI", l.requests(), 0)
	l.write(regEOI, 0)
	check(t, "again while asserted", l.take(), 0x44)
	line.SetLevel(false)
	l.write(regEOI, 0)
	check(t, "quiet", l.take(), 0)
	check(t, "remote IRR", io.read(ioTable+18), low)

	line.SetLevel(true)
	check(t, "next interrupt", l.take(), 0x44)
	io.write(ioTable+18, low|rteMasked)
	check(t, "masking keeps remote IRR", io.read(ioTable+18), low|irr|rteMasked)
	l.write(regEOI, 0)
	check(t, "EOI under the mask", io.read(ioTable+18), low|rteMasked)
	check(t, "masked", l.take(), 0)
	io.write(ioTable+18, low)
	check(t, "unmasked", l.take(), 0x44)
}

func TestIOAPICEndWithoutBroadcast(t *testing.T) {
	const low = rteLevel | 0x44
	for _, c := range []struct {
		name string
		end  func(*IOAPIC)
	}{
		{"EOI register", func(io *IOAPIC) { io.WriteMMIO(ioRegEOI, 4, 0x44) }},
		{"edge for a moment", func(io *IOAPIC) {
			io.write(ioTable, 0x10044)
			io.write(ioTable, low)
		}},
	} {
		io, s := newIOAPIC(1)
		io.route(0, 0, low)
		io.Line(0).SetLevel(true)
		s.Local(0).take()
		io.WriteMMIO(ioRegEOI, 4, 0x45)
		check(t, c.name+": other vector", s.Local(0).requests(), 0)
		c.end(io)
		check(t, c.name, s.Local(0).requests(), 0x44)
	}
}

func TestIOAPICSharedVector(t *testing.T) {
	io, s := newIOAPIC(1)
	l := s.Local(0)
	for _, pin := range []int{10, 11} {
		io.route(pin, 0, rteLevel|0x60)
		io.Line(irq.GSI(pin)).SetLevel(true)
	}
	l.take()
	io.Line(10).SetLevel(false)
	l.write(regEOI, 0)
	check(t, "pin 10", io.read(ioTable+20), rteLevel|0x60)
	check(t, "pin 11", io.read(ioTable+22), rteLevel|rteRemoteIRR|0x60)
	check(t, "again for pin 11", l.take(), 0x60)
}

func TestIOAPICNobodyAccepts(t *testing.T) {
	io, s := newIOAPIC(1)
	io.route(5, 7<<24, rteLevel|0x60)
	io.Line(5).SetLevel(true)
	check(t, "no remote IRR", io.read(ioTable+10), rteLevel|0x60)
	io.write(ioTable+11, 0)
	check(t, "the right destination", s.Local(0).take(), 0x60)
}

func TestIOAPICModes(t *testing.T) {
	for _, c := range []struct {
		name   string
		low    uint32
		events Events
		vector irq.Vector
		extINT bool
		stats  Stats
	}{
		{"fixed", 0x041, Events{}, 0x41, false, Stats{}},
		{"lowest priority", 0x141, Events{}, 0x41, false, Stats{}},
		{"SMI", 0x200, Events{}, 0, false, Stats{SMIs: 1}},
		{"reserved", 0x341, Events{}, 0, false, Stats{Malformed: 1}},
		{"NMI", 0x400, Events{NMI: true}, 0, false, Stats{}},
		{"NMI with the level bit", 0x8400, Events{NMI: true}, 0, false, Stats{}},
		{"INIT", 0x500, Events{INIT: true}, 0, false, Stats{}},
		{"start-up", 0x641, Events{}, 0, false, Stats{Malformed: 1}},
		{"ExtINT", 0x700, Events{}, 0, true, Stats{}},
	} {
		io, s := newIOAPIC(1)
		s.SetLINT0(true)
		io.route(0, 0, c.low)
		io.Line(0).SetLevel(true)
		check(t, c.name, s.Local(0).take(), c.vector)
		check(t, c.name+": events", s.Local(0).Pending(), c.events)
		check(t, c.name+": ExtINT", s.Local(0).ExtINTPending(), c.extINT)
		check(t, c.name+": stats", s.Stats(), c.stats)
		check(t, c.name+": remote IRR", io.read(ioTable)&rteRemoteIRR, 0)
	}
}

func TestIOAPICDestinations(t *testing.T) {
	for _, c := range []struct{ high, low, want uint32 }{
		{0x02000000, 0x041, 4},
		{0xFF000000, 0x041, 0xF},
		{0x06000000, 0x841, 6},
		{0x08000000, 0x941, 8},
		{0x02020000, 0x041, 0},
	} {
		s := logicalSet(0xFFFFFFFF, 1, 2, 4, 8)
		io := NewIOAPIC(s)
		io.route(23, c.high, c.low)
		irq.Pulse(io.Line(23))
		check(t, fmt.Sprintf("%#x %#x", c.high, c.low), receivers(s, 0x41), c.want)
	}
}
