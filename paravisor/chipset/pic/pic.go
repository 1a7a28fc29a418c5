// Package pic emulates the pair of 8259A interrupt controllers of a PC with
// its edge/level control registers.
package pic

import (
	"sync"

	"keel/paravisor/chipset/isa"
	"keel/vtl/bus"
	"keel/vtl/irq"
)

// PIC is the pair. It implements bus.Resetter; Master, Slave and ELCR are its
// port ranges.
type PIC struct {
	out    irq.Line
	inputs [Inputs]input

	mu         sync.Mutex
	master     chip
	slave      chip
	shown      bool // level that out has, or is being given
	dip        bool // out must fall once, though requests may be pending
	publishing bool // a goroutine is calling out
}

type input struct {
	pic *PIC
	n   uint8
}

// New returns a pair in its reset state that drives out, the INTR wire of a
// processor (LINT0 of its APIC). INTR is high while a request is pending; with
// each Acknowledge it falls, and rises again when more are. out is called
// without the chip's mutex.
func New(out irq.Line) *PIC {
	p := &PIC{
		out:    out,
		master: chip{master: true, elcrMask: elcrMasterMask},
		slave:  chip{elcrMask: elcrSlaveMask},
	}
	for n := range p.inputs {
		p.inputs[n] = input{p, uint8(n)}
	}
	p.Reset()
	return p
}

// Reset masks all inputs and forgets requests and services. Inputs keep the
// levels that devices drive.
func (p *PIC) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.master.reset()
	p.slave.reset()
	p.update()
}

// Line returns input n, 0 to 15, of the pair. The cascade input and numbers
// beyond lead nowhere.
func (p *PIC) Line(n int) irq.Line {
	if n < 0 || n >= Inputs || n == Cascade {
		return irq.Unconnected
	}
	return &p.inputs[n]
}

// SetLevel drives the input.
func (i *input) SetLevel(high bool) {
	p := i.pic
	p.mu.Lock()
	defer p.mu.Unlock()
	if i.n < 8 {
		p.master.setLine(i.n, high)
	} else {
		p.slave.setLine(i.n-8, high)
	}
	p.update()
}

// Acknowledge is the processor's interrupt acknowledge cycle for an ExtINT: it
// returns the vector and moves the request into service. When the request has
// gone meanwhile the vector is that of a spurious interrupt, IRQ 7 or 15.
// Preconditions: the caller holds no lock that out takes.
func (p *PIC) Acknowledge() irq.Vector {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.master.request()
	if n == none {
		return irq.Vector(p.master.base | spurious)
	}
	p.master.acknowledge(n)
	base := p.master.base
	if n == Cascade {
		base = p.slave.base
		if n = p.slave.request(); n == none {
			n = spurious
		} else {
			p.slave.acknowledge(n)
		}
	}
	p.dip = p.shown
	p.update()
	return irq.Vector(base | uint8(n))
}

// update passes the slave's request to the master and the master's to out. The
// mutex is released around the call, so that a receiver may call back; a second
// goroutine leaves the call to the one that is at it, which keeps the levels in
// order. Preconditions: the mutex is held.
func (p *PIC) update() {
	p.master.setLine(Cascade, p.slave.request() != none)
	if p.publishing {
		return
	}
	p.publishing = true
	for {
		want := p.master.request() != none && !p.dip
		p.dip = false
		if want == p.shown {
			break
		}
		p.shown = want
		p.mu.Unlock()
		p.out.SetLevel(want)
		p.mu.Lock()
	}
	p.publishing = false
}

// Master returns the device behind the ports of the chip that drives INTR.
func (p *PIC) Master() bus.PIODevice { return &ports{p, &p.master} }

// Slave returns the device behind the ports of the chip on input 2.
func (p *PIC) Slave() bus.PIODevice { return &ports{p, &p.slave} }

// ELCR returns the edge/level control registers of both.
func (p *PIC) ELCR() bus.PIODevice { return (*elcr)(p) }

// ports are the two registers of one chip.
type ports struct {
	pic  *PIC
	chip *chip
}

func (r *ports) ReadPIO(offset uint16, size int) uint32 {
	r.pic.mu.Lock()
	defer r.pic.mu.Unlock()
	v := isa.Read(offset, size, r.chip.read)
	r.pic.update() // a poll acknowledges
	return v
}

func (r *ports) WritePIO(offset uint16, size int, value uint32) {
	r.pic.mu.Lock()
	defer r.pic.mu.Unlock()
	isa.Write(offset, size, value, r.chip.write)
	r.pic.update()
}

// elcr is the pair seen through its edge/level control registers.
type elcr PIC

func (e *elcr) ReadPIO(offset uint16, size int) uint32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return isa.Read(offset, size, func(o uint16) uint8 {
		if o == 0 {
			return e.master.elcr
		}
		return e.slave.elcr
	})
}

func (e *elcr) WritePIO(offset uint16, size int, value uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	isa.Write(offset, size, value, func(o uint16, v uint8) {
		if o == 0 {
			e.master.setELCR(v)
		} else {
			e.slave.setELCR(v)
		}
	})
	(*PIC)(e).update()
}
