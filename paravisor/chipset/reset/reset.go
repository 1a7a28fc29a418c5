// Package reset emulates the two registers through which a PC resets itself:
// port 92h and the reset control register CF9h.
package reset

import (
	"sync/atomic"

	"keel/vtl/bus"
)

// Reason says what kind of reset the guest asked for.
type Reason uint8

// Reasons, from the weakest to the strongest.
const (
	Fast  Reason = iota // port 92h: INIT of the processors
	Soft                // CF9h without SYS_RST: INIT of the processors
	Hard                // CF9h with SYS_RST: all devices
	Power               // CF9h with FULL_RST: power cycle
)

// String names the register and what was written, for logs.
func (r Reason) String() string {
	return [...]string{Fast: "port 92h", Soft: "port CF9h, soft", Hard: "port CF9h, hard", Power: "port CF9h, power cycle"}[r]
}

// Control holds both registers. It implements bus.Resetter.
type Control struct {
	reset   func(Reason)
	fast    atomic.Uint32
	control atomic.Uint32
}

// New returns the registers in their reset state, the A20 gate open. reset runs
// on the VP that wrote, without locks.
func New(reset func(Reason)) *Control {
	c := &Control{reset: reset}
	c.Reset()
	return c
}

// Reset sets both registers to their reset values.
func (c *Control) Reset() {
	c.fast.Store(fastA20)
	c.control.Store(0)
}

// Port92 returns the device behind FastPort, one port long. The A20 gate is
// storage: address line 20 is never masked.
func (c *Control) Port92() bus.PIODevice { return (*port92)(c) }

// CF9 returns the device behind ControlPort, one port long. It lies inside the
// range of PCI configuration, whose owner passes byte accesses on.
func (c *Control) CF9() bus.PIODevice { return (*cf9)(c) }

type port92 Control

func (p *port92) ReadPIO(_ uint16, _ int) uint32 { return p.fast.Load() }

func (p *port92) WritePIO(_ uint16, _ int, value uint32) {
	old := p.fast.Swap(value & fastMask)
	if value&^old&fastInit != 0 {
		p.reset(Fast)
	}
}

type cf9 Control

func (p *cf9) ReadPIO(_ uint16, _ int) uint32 { return p.control.Load() }

func (p *cf9) WritePIO(_ uint16, _ int, value uint32) {
	old := p.control.Swap(value & controlMask)
	if value&^old&controlCPU == 0 {
		return
	}
	switch {
	case value&controlSystem == 0:
		p.reset(Soft)
	case value&controlFull != 0:
		p.reset(Power)
	default:
		p.reset(Hard)
	}
}
