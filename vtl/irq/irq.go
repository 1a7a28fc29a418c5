// Package irq names the ways in which a device interrupts the guest: a wire
// into an interrupt controller, or a message-signalled interrupt.
package irq

import "sync/atomic"

// GSI is a global system interrupt: the pin of an IOAPIC, counted over all
// IOAPICs of the machine (ACPI 6.5 §5.2.13).
type GSI uint8

// Vector is an index into the guest's interrupt descriptor table.
type Vector uint8

// Line is one interrupt wire. SetLevel drives it; setting the level that the
// wire already has does nothing. It may be called from any goroutine.
type Line interface {
	SetLevel(high bool)
}

// MSITarget accepts message-signalled interrupts (Intel SDM vol. 3 §11.11): a
// write of data to an address in the 0xFEE00000 window. It may be called from
// any goroutine.
type MSITarget interface {
	SignalMSI(address uint64, data uint32)
}

// LineFunc makes a function a Line.
type LineFunc func(high bool)

// SetLevel calls the function.
func (f LineFunc) SetLevel(high bool) { f(high) }

// Pulse drives the line high, then low: one edge for an edge-triggered input.
func Pulse(l Line) {
	l.SetLevel(true)
	l.SetLevel(false)
}

// Unconnected is a Line that leads nowhere.
var Unconnected Line = LineFunc(func(bool) {})

// Fan drives several wires from one source, as ISA interrupts drive both the
// 8259 pair and the IOAPIC.
type Fan []Line

// SetLevel drives every wire in order.
func (f Fan) SetLevel(high bool) {
	for _, l := range f {
		l.SetLevel(high)
	}
}

// Recorder is a Line for tests of devices: it counts rising edges and keeps
// the last level. The zero value is ready to use.
type Recorder struct {
	high  atomic.Bool
	edges atomic.Uint64
}

// SetLevel records the level.
func (r *Recorder) SetLevel(high bool) {
	if !r.high.Swap(high) && high {
		r.edges.Add(1)
	}
}

// High reports the current level.
func (r *Recorder) High() bool { return r.high.Load() }

// Edges counts the rising edges so far.
func (r *Recorder) Edges() uint64 { return r.edges.Load() }
