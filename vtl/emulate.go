package vtl

import (
	"errors"
	"fmt"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/hcl/sys"
	"keel/vtl/guestmem"
	"keel/vtl/x86emu"
)

// A TEE hands the paravisor an access to a device as a raw fault: which page, and nothing
// executed. Keel then runs the instruction itself.

// maxReserved bounds the ranges whose accesses are raw: the attributes of every page take
// memory. What is larger, which PCI's windows above RAM are, the substrate executes.
const maxReserved = 1 << 30

var errNoRAM = errors.New("raw faults without the guest's memory")

// reserve makes the accesses to all devices raw faults, and prepares the VPs for them.
func (g *Guest) reserve(raw hcl.RawFaults) error {
	if g.config.RAM == nil {
		return fmt.Errorf("%w: %w", ErrConfig, errNoRAM)
	}
	if err := raw.Reserve(x86.APIC_DEFAULT_BASE, x86.PageSize); err != nil {
		return err
	}
	var end x86.GPA // of what is reserved so far
	for _, r := range g.config.Memory.Ranges() {
		first, last := r.First&^(x86.PageSize-1), (r.First+x86.GPA(r.Size)-1)|(x86.PageSize-1)
		first = max(first, end) // devices may share a page
		if r.Size > maxReserved || first > last {
			continue
		}
		if err := raw.Reserve(first, uint64(last-first)+1); err != nil {
			return fmt.Errorf("%s: %w", r.Name, err)
		}
		end = last + 1
	}
	for _, v := range g.vps {
		v.emu = &emulation{}
		v.emu.emulator = x86emu.New(physical{v, g.config.RAM}, ports{v}, nil)
	}
	return nil
}

// emulation is what a VP needs to run an instruction. Nothing is made for one.
type emulation struct {
	emulator  *x86emu.Emulator
	state     x86emu.State
	registers hcl.Registers
	special   hcl.SpecialRegisters
}

// maxSteps bounds how long a repeated instruction keeps a VP from its interrupts. The
// guest then takes it up where it was left.
const maxSteps = 64

// Exceptions (AMD64 APM vol. 2 §8.2).
const (
	vectorDB = 1
	vectorPF = 14
)

// memoryFault runs the instruction that has faulted.
func (v *vp) memoryFault(e *hcl.Exit) {
	if v.emu == nil {
		v.crash("access to forbidden memory", describe(e), e)
		return
	}
	if err := v.emulate(e); err != nil {
		v.broken = err
	}
}

func (v *vp) emulate(e *hcl.Exit) error {
	r, s, state := &v.emu.registers, &v.emu.special, &v.emu.state
	var err error
	if *r, err = v.backend.Registers(); err != nil {
		return err
	}
	if *s, err = v.backend.SpecialRegisters(); err != nil {
		return err
	}
	state.Load(r, s)
	v.oracle.begin(r)
	result := v.emu.emulator.Step(state)
	for n := 1; n < maxSteps && result.Outcome == x86emu.Continue && !result.SingleStep; n++ {
		result = v.emu.emulator.Step(state)
	}
	if result.Outcome == x86emu.Unsupported {
		v.crash("instruction cannot be run: "+result.Reason.String(), bytesOf(result), e)
		return nil
	}
	state.Store(r)
	if err := v.backend.SetRegisters(r); err != nil {
		return err
	}
	if v.oracle != nil {
		if err := v.oracle.end(s, r, result.Outcome == x86emu.Done && !result.SingleStep); err != nil {
			return err
		}
		v.armed = 0 // the shadow VP may have taken the timer's signal
	}
	switch {
	case result.Outcome == x86emu.Faulted:
		if result.Fault.Vector == vectorPF {
			s.CR2 = result.Fault.Address
			if err := v.backend.SetSpecialRegisters(s); err != nil {
				return err
			}
		}
		return v.backend.InjectException(result.Fault.Vector, result.Fault.Code, result.Fault.HasCode)
	case result.SingleStep:
		return v.backend.InjectException(vectorDB, 0, false)
	}
	return nil
}

// bytesOf writes the instruction of a step. Its copy of the result keeps that of the exit
// path off the heap.
func bytesOf(r x86emu.Result) string { return fmt.Sprintf("bytes % x", r.Bytes[:r.Length]) }

// physical is the physical memory that an instruction of a VP reaches. What is not RAM is
// the bus's, also where no device answers.
type physical struct {
	v   *vp
	ram *guestmem.Memory
}

var _ x86emu.Memory = physical{}

// Kind tells what n bytes are.
func (p physical) Kind(gpa x86.GPA, n int, _ bool) x86emu.Kind {
	if p.ram.Has(gpa, n) {
		return x86emu.KindRAM
	}
	return x86emu.KindDevice
}

// ReadRAM copies from RAM.
func (p physical) ReadRAM(gpa x86.GPA, b []byte) bool { return p.ram.ReadAt(gpa, b) == nil }

// WriteRAM copies to RAM.
func (p physical) WriteRAM(gpa x86.GPA, b []byte) bool { return p.ram.WriteAt(gpa, b) == nil }

// CompareAndSwap replaces a quadword of RAM.
func (p physical) CompareAndSwap(gpa x86.GPA, before, after uint64) (swapped, ok bool) {
	b, err := p.ram.Slice(gpa, 8)
	if err != nil {
		return false, false
	}
	return sys.CompareAndSwap64(b, before, after), true
}

// CompareAndSwap16 is not there: no guest does that to a device.
func (physical) CompareAndSwap16(x86.GPA, [2]uint64, [2]uint64) (swapped, ok bool) {
	return false, false
}

// ports are those that string port I/O of a VP reaches.
type ports struct{ v *vp }

var _ x86emu.Ports = ports{}

// ReadPIO reads from a port.
func (p ports) ReadPIO(port uint16, size int) uint32 {
	value := p.v.guest.config.Ports.Read(port, size)
	p.v.oracle.notePort(port, size, uint64(value), false)
	return value
}

// WritePIO writes to a port.
func (p ports) WritePIO(port uint16, size int, value uint32) {
	p.v.oracle.notePort(port, size, uint64(value), true)
	p.v.guest.config.Ports.Write(port, size, value)
}

// ReadMMIO reads from a device.
func (p physical) ReadMMIO(gpa x86.GPA, b []byte) {
	e := hcl.Exit{Kind: hcl.ExitMMIO, GPA: gpa, Data: b}
	p.v.mmio(&e)
	p.v.oracle.note(gpa, b, false)
}

// WriteMMIO writes to a device.
func (p physical) WriteMMIO(gpa x86.GPA, b []byte) {
	p.v.oracle.note(gpa, b, true)
	e := hcl.Exit{Kind: hcl.ExitMMIO, GPA: gpa, Data: b, Write: true}
	p.v.mmio(&e)
}
