package emutee

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
	"keel/hcl/snp/vmsa"
)

// processor is a VP of the guest's VMPL.
type processor struct {
	vp    hcl.StateRunner
	gpa   x86.GPA // of the VMSA
	page  []byte
	area  vmsa.SaveArea
	state hcl.State
	msrs  [len(msrNumbers)]uint64 // as they were loaded
	fresh atomic.Bool             // the VMSA was made anew
	// RAX of the guest, while a port's output of a string has its place.
	rax  uint64
	outs bool
}

// msrNumbers are the model-specific registers in a VMSA that a machine loads (APM
// vol. 2 appendix A), in the order of msrsOf.
var msrNumbers = [...]uint32{
	0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000102, // STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE
	0x174, 0x175, 0x176, 0x277, 0xC0000103, // SYSENTER_CS, ESP and EIP, PAT, TSC_AUX
}

func msrsOf(s *vmsa.SaveArea) [len(msrNumbers)]uint64 {
	return [...]uint64{
		s.STAR, s.LSTAR, s.CSTAR, s.SFMASK, s.KernelGSBase,
		s.SysenterCS, s.SysenterESP, s.SysenterEIP, s.PAT, uint64(s.TSCAux),
	}
}

// patReset is PAT after a reset (APM vol. 2 §7.8.2).
const patReset = 0x0007040600070406

// NewVP makes the VP that runs from a VMSA, a page of NewPage that RMPADJUST has made
// one.
func (m *Machine) NewVP(config hcl.VPConfig, at x86.GPA) error {
	if i := at - m.config.Own; at < m.config.Own || i%x86.PageSize != 0 || i >= x86.GPA(len(m.own)) {
		return fmt.Errorf("%w %d: VMSA at %#x: use a page of the paravisor", ErrVP, config.Index, at)
	}
	m.vpMu.RLock()
	taken := m.vps[config.Index] != nil
	m.vpMu.RUnlock()
	if taken {
		return fmt.Errorf("%w %d: there is one already", ErrVP, config.Index)
	}
	vp, err := m.raw.NewVP(config)
	if err != nil {
		return err
	}
	runner, ok := vp.(hcl.StateRunner)
	if !ok {
		return fmt.Errorf("%w: %w: the partition's VPs are no hcl.StateRunner", ErrVP, hcl.ErrNotSupported)
	}
	i := int(at - m.config.Own)
	p := &processor{vp: runner, gpa: at, page: m.own[i : i+x86.PageSize]}
	p.fresh.Store(true)
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

// renew notes that a page has become a VMSA: it is loaded in full.
func (m *Machine) renew(gpa x86.GPA) {
	m.vpMu.RLock()
	defer m.vpMu.RUnlock()
	for _, p := range m.vps {
		if p.gpa == gpa&^(x86.PageSize-1) {
			p.fresh.Store(true)
		}
	}
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

// SetMSR writes a model-specific register that no VMSA holds.
func (m *Machine) SetMSR(vp int, index uint32, value uint64) error {
	p := m.processor(vp)
	if p == nil {
		return fmt.Errorf("%w %d: there is none", ErrVP, vp)
	}
	if err := p.refresh(); err != nil {
		return err
	}
	return p.vp.SetMSR(index, value)
}

// refresh begins anew with what a VMSA does not hold, if the VMSA is new.
func (p *processor) refresh() error {
	if !p.fresh.Swap(false) {
		return nil
	}
	p.msrs, p.outs = [len(msrNumbers)]uint64{8: patReset}, false
	p.state.Whole = true
	return p.vp.Reset()
}

// load takes the VP's state from its VMSA, which has passed the checks.
func (p *processor) load() error {
	a, s := &p.area, &p.state
	if err := p.refresh(); err != nil {
		return err
	}
	now := msrsOf(a)
	for i, v := range now {
		if v != p.msrs[i] {
			if err := p.vp.SetMSR(msrNumbers[i], v); err != nil {
				return err
			}
		}
	}
	p.msrs = now
	s.Whole = s.Whole || a.PCPUID == 0 // the processor's translations are of no use (§15.36.17)
	s.Registers, s.Special = a.Registers, a.Special
	if p.outs {
		s.Registers.RAX, p.outs = p.rax, false
	}
	s.CR8 = uint8(a.VINTR & 0xf)
	s.Window = a.VINTR&snp.VINTR_IRQ != 0
	s.Shadow = a.VINTR&snp.VINTR_INT_SHADOW != 0
	s.NMIPending, s.NMIMasked = a.VINTR&snp.VINTR_NMI != 0, a.VINTR&snp.VINTR_NMI_MASK != 0
	s.Event = eventOf(a.EventInj)
	return nil
}

// output shows an element that OUTS has moved as one of OUT: the partition has gone on
// behind it, and what it does with RAX it does when the VP runs again.
func (p *processor) output(e *hcl.Exit) bool {
	if !e.Write || len(e.Data) != int(e.Size) || len(e.Data) > 4 {
		return false
	}
	r := &p.state.Registers
	p.rax, p.outs = r.RAX, true
	for i, b := range e.Data {
		r.RAX = r.RAX&^(0xff<<(8*i)) | uint64(b)<<(8*i)
	}
	p.area.SetRegisters(r, &p.state.Special)
	return true
}

// store puts the VP's state into its save area.
func (p *processor) store(index int) {
	a, s := &p.area, &p.state
	a.SetRegisters(&s.Registers, &s.Special)
	a.VINTR &^= snp.VINTR_SAVED_ON_EXIT &^ snp.VINTR_IRQ
	a.VINTR |= uint64(s.CR8 & 0xf)
	for _, b := range [...]struct {
		set bool
		bit uint64
	}{{s.Shadow, snp.VINTR_INT_SHADOW}, {s.NMIPending, snp.VINTR_NMI}, {s.NMIMasked, snp.VINTR_NMI_MASK}} {
		if b.set {
			a.VINTR |= b.bit
		}
	}
	a.EventInj = 0
	a.PCPUID = uint64(index) + 1
}

// eventOf reads EVENTINJ, and wordOf writes EXITINTINFO (§15.20, §15.7.2).
func eventOf(w uint64) hcl.Event {
	if w&snp.EVENT_VALID == 0 {
		return hcl.Event{}
	}
	e := hcl.Event{Vector: uint8(w & snp.EVENT_VECTOR_MASK)}
	switch w & snp.EVENT_TYPE_MASK >> snp.EVENT_TYPE_SHIFT {
	case snp.EVENT_TYPE_INTR:
		e.Kind = hcl.EventInterrupt
	case snp.EVENT_TYPE_NMI:
		e.Kind = hcl.EventNMI
	case snp.EVENT_TYPE_EXCEPTION:
		e.Kind, e.HasCode, e.Code = hcl.EventException, w&snp.EVENT_ERROR_VALID != 0, uint32(w>>snp.EVENT_ERROR_SHIFT)
	}
	return e
}

func wordOf(e hcl.Event) uint64 {
	w := uint64(snp.EVENT_VALID) | uint64(e.Vector)
	switch e.Kind {
	case hcl.EventInterrupt:
		return w | snp.EVENT_TYPE_INTR<<snp.EVENT_TYPE_SHIFT
	case hcl.EventNMI:
		return w | snp.EVENT_TYPE_NMI<<snp.EVENT_TYPE_SHIFT
	case hcl.EventException:
		w |= snp.EVENT_TYPE_EXCEPTION << snp.EVENT_TYPE_SHIFT
		if e.HasCode {
			w |= snp.EVENT_ERROR_VALID | uint64(e.Code)<<snp.EVENT_ERROR_SHIFT
		}
		return w
	case hcl.EventNone:
	}
	return 0
}

// refuse writes nothing but the exit, as VMRUN does that does not enter.
func (p *processor) refuse(code uint64) {
	le := binary.LittleEndian
	le.PutUint64(p.page[snp.VMSA_GUEST_EXIT_CODE:], code)
	le.PutUint64(p.page[snp.VMSA_GUEST_EXITINFO1:], 0)
	le.PutUint64(p.page[snp.VMSA_GUEST_EXITINFO2:], 0)
	le.PutUint64(p.page[snp.VMSA_GUEST_EXITINTINFO:], 0)
}
