package tdxmodule

import (
	"fmt"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/tdx/l2"
)

// processor is a VP of the machine: the module's, and the partition's, which runs the
// guest in its place.
type processor struct {
	vp     hcl.StateRunner
	module *VP
	enter  l2.EnterState
	state  hcl.State
	msrs   [len(msrNumbers)]uint64 // as they were loaded
	// RAX of the guest, while a port's output of a string has its place.
	rax  uint64
	outs bool
}

// msrNumbers are the model-specific registers that a machine loads (Intel SDM vol. 4 table
// 2-2), in the order of msrsOf.
var msrNumbers = [...]uint32{
	0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000102, 0xC0000103, // STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE, TSC_AUX
	0x174, 0x175, 0x176, 0x277, // SYSENTER_CS, ESP and EIP, PAT
}

func (p *processor) msrsOf(c *l2.Context) [len(msrNumbers)]uint64 {
	get := func(code uint32) uint64 { return p.module.get(GuestVM, code) }
	return [...]uint64{
		c.STAR, c.LSTAR, c.CSTAR, c.SFMASK, c.KernelGSBase, c.TSCAux,
		get(tdx.VMCS_SYSENTER_CS), get(tdx.VMCS_SYSENTER_ESP), get(tdx.VMCS_SYSENTER_EIP), get(tdx.VMCS_GUEST_PAT),
	}
}

// msrsReset are their values after power-on.
var msrsReset = [len(msrNumbers)]uint64{len(msrNumbers) - 1: patInit}

// NewVP makes a VP.
func (m *Machine) NewVP(config hcl.VPConfig) error {
	if m.processor(config.Index) != nil {
		return fmt.Errorf("%w %d: there is one already", ErrVP, config.Index)
	}
	module, err := m.td.NewVP()
	if err != nil {
		return err
	}
	vp, err := m.raw.NewVP(config)
	if err != nil {
		return err
	}
	runner, ok := vp.(hcl.StateRunner)
	if !ok {
		return fmt.Errorf("%w: %w: the partition's VPs are no hcl.StateRunner", ErrVP, hcl.ErrNotSupported)
	}
	p := &processor{vp: runner, module: module, msrs: msrsReset}
	p.state.Whole = true
	m.vpMu.Lock()
	m.vps[config.Index] = p
	m.vpMu.Unlock()
	return nil
}

func (m *Machine) processor(index int) *processor {
	m.vpMu.RLock()
	defer m.vpMu.RUnlock()
	return m.vps[index]
}

// known returns a VP, or says that there is none.
func (m *Machine) known(index int) (*processor, error) {
	p := m.processor(index)
	if p == nil {
		return nil, fmt.Errorf("%w %d: there is none", ErrVP, index)
	}
	return p, nil
}

// CallVP is TDCALL of the paravisor on a VP, of any leaf but TDG.VP.ENTER.
func (m *Machine) CallVP(vp int, r *l2.Registers) error {
	p, err := m.known(vp)
	if err != nil {
		return err
	}
	switch r.RAX & tdx.TDG_LEAF_MASK {
	case tdx.TDG_VP_ENTER:
		return fmt.Errorf("%w %d: TDG.VP.ENTER is Run", ErrVP, vp)
	case tdx.TDG_MEM_PAGE_ACCEPT, tdx.TDG_MEM_PAGE_ATTR_WR:
		return m.Call(r) // what the guest may do changes with it
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	called, err := p.module.Call(r, (*contents)(m), false)
	if err == nil && called.Outcome != OutcomeReturn {
		err = fmt.Errorf("%w: leaf %d of VP %d at %#x", ErrFault, r.RAX, vp, called.GPA)
	}
	return err
}

// Kick makes Run of a VP return.
func (m *Machine) Kick(vp int) {
	if p := m.processor(vp); p != nil {
		p.vp.Kick()
	}
}

// TSC reads a VP's time stamp counter.
func (m *Machine) TSC(vp int) uint64 {
	if p := m.processor(vp); p != nil {
		return p.vp.TSC()
	}
	return 0
}

// SetMSR writes a model-specific register that neither the VMCS nor the context holds.
func (m *Machine) SetMSR(vp int, index uint32, value uint64) error {
	p, err := m.known(vp)
	if err != nil {
		return err
	}
	return p.vp.SetMSR(index, value)
}

// Reset begins anew with what neither the VMCS nor the context holds.
func (m *Machine) Reset(vp int) error {
	p, err := m.known(vp)
	if err != nil {
		return err
	}
	p.msrs, p.outs = msrsReset, false
	p.state = hcl.State{Whole: true}
	return p.vp.Reset()
}

// output shows an element that OUTS has moved as one of an OUT of one byte: the partition
// has gone on behind it, and what it does with RAX it does when the VP runs again.
func (p *processor) output(e *hcl.Exit) bool {
	if !e.Write || len(e.Data) != int(e.Size) || len(e.Data) > 4 {
		return false
	}
	r := &p.state.Registers
	p.rax, p.outs = r.RAX, true
	for i, b := range e.Data {
		r.RAX = r.RAX&^(0xff<<(8*i)) | uint64(b)<<(8*i)
	}
	r.RIP--
	return true
}

// load takes the guest's state from where the module and L1 keep it; it has passed the
// checks. apic is the virtual APIC page.
func (p *processor) load(c *l2.Context, apic []byte, rcx uint64) error {
	now := p.msrsOf(c)
	for i, v := range now {
		if v != p.msrs[i] {
			if err := p.vp.SetMSR(msrNumbers[i], v); err != nil {
				return err
			}
		}
	}
	p.msrs = now
	v, s := p.module, &p.state
	switch rcx & tdx.VM_FLAGS_INVALIDATE_MASK {
	case tdx.INVALIDATE_INVVPID, tdx.INVALIDATE_NON_GLOBAL:
		s.Whole = true
	}
	v.l2[GuestVM].cr2 = c.CR2
	s.Registers, s.Special = p.enter.Registers, v.Special(GuestVM)
	if p.outs {
		s.Registers.RAX, p.outs = p.rax, false
	}
	s.CR8 = apic[apicTPR] >> classShift
	blocking := v.get(GuestVM, tdx.VMCS_INTERRUPTIBILITY)
	s.Shadow = blocking&shadow != 0
	s.NMIPending, s.NMIMasked = false, blocking&tdx.INTERRUPTIBILITY_NMI != 0
	s.Event = hcl.Event{}
	if e, ok := v.Event(GuestVM); ok {
		s.Event = eventOf(e)
	}
	return nil
}

const (
	shadow = tdx.INTERRUPTIBILITY_STI | tdx.INTERRUPTIBILITY_MOV_SS
	// The task priority register in the virtual APIC page (SDM vol. 3, "Virtual-APIC
	// Page").
	apicTPR    = 0x80
	classShift = 4
)

// store puts the guest's state where the module and L1 keep it.
func (p *processor) store(c *l2.Context, apic []byte) {
	v, s := p.module, &p.state
	p.enter.Registers = s.Registers
	v.Load(GuestVM, &p.enter) // what an exit saves
	setAccessed(&s.Special)
	v.SetSpecial(GuestVM, &s.Special)
	c.CR2 = s.Special.CR2
	apic[apicTPR] = s.CR8 << classShift
	blocking := uint64(0)
	switch {
	case s.Shadow && s.Registers.RFLAGS&rflagsIF != 0:
		blocking = tdx.INTERRUPTIBILITY_STI
	case s.Shadow:
		blocking = tdx.INTERRUPTIBILITY_MOV_SS
	}
	if s.NMIMasked {
		blocking |= tdx.INTERRUPTIBILITY_NMI
	}
	v.set(GuestVM, tdx.VMCS_INTERRUPTIBILITY, blocking)
}

// setAccessed sets what a processor sets when it loads a code or data segment, and what
// QEMU's emulation of one leaves out when it delivers an interrupt (SDM vol. 3 §3.4.5.1).
func setAccessed(s *hcl.SpecialRegisters) {
	const loaded = hcl.SegPresent | hcl.SegNonSystem
	for _, g := range l2.Segments(s) {
		if g.Attributes&(loaded|hcl.SegUnusable) == loaded {
			g.Attributes |= 1
		}
	}
}

// eventOf is an event for the partition, and infoOf the IDT-vectoring information of one
// that was not delivered.
func eventOf(e l2.Event) hcl.Event {
	h := hcl.Event{Vector: e.Vector, HasCode: e.HasError, Code: e.Error}
	switch e.Type {
	case tdx.INTERRUPTION_EXTERNAL:
		h.Kind = hcl.EventInterrupt
	case tdx.INTERRUPTION_NMI:
		h.Kind = hcl.EventNMI
	default:
		h.Kind = hcl.EventException
	}
	return h
}

func infoOf(h hcl.Event) (info, code uint32) {
	e := l2.Event{Vector: h.Vector, HasError: h.HasCode, Error: h.Code}
	switch h.Kind {
	case hcl.EventInterrupt:
		e.Type = tdx.INTERRUPTION_EXTERNAL
	case hcl.EventNMI:
		e.Type = tdx.INTERRUPTION_NMI
	case hcl.EventException:
		e.Type = tdx.INTERRUPTION_EXCEPTION
	case hcl.EventNone:
		return 0, 0
	}
	return uint32(e.Info()), e.Error
}

// lengthOf is the length of an instruction, or 0 where the next one is unknown.
func lengthOf(rip, next uint64) uint32 {
	if n := uint32(next - rip); next != 0 && n <= maxInstruction {
		return n
	}
	return 0
}

const maxInstruction = 15
