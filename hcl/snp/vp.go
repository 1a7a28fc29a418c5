package snp

import (
	"fmt"

	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
	"keel/hcl/leaves"
	"keel/hcl/snp/vmsa"
)

// VP is a virtual processor at the guest's VMPL. Between two runs its state is in area;
// the VMSA holds it while the VP runs.
type VP struct {
	p     *Partition
	hw    Hardware
	index int
	gpa   x86.GPA
	page  []byte
	area  vmsa.SaveArea
	power vmsa.SaveArea // at power-on
	cpuid leaves.Table

	window bool
	answer answer
	data   [4]byte // of port I/O
	// What the guest may not change as it likes, as it was before the last run.
	cr0, cr4, efer uint64
}

var _ hcl.VP = (*VP)(nil)

// answer is what the last exit waits for.
type answer struct {
	kind      hcl.ExitKind // ExitPIO, ExitMSRRead or ExitMSRWrite, else nothing
	write     bool         // of port I/O
	size      uint8
	rip, next uint64 // of the instruction, and of the one behind it
	value     uint64 // of an MSR
	fault     bool
}

// NewVP makes a VP of the calling thread.
// Preconditions: the goroutine is locked to its thread.
func (p *Partition) NewVP(config hcl.VPConfig) (hcl.VP, error) {
	if err := p.take(config.Index); err != nil {
		return nil, err
	}
	vp := &VP{p: p, hw: p.hw, index: config.Index, cpuid: config.CPUID}
	vp.power = powerOn(config)
	var err error
	if vp.gpa, vp.page, err = p.hw.NewPage(); err != nil {
		return nil, fmt.Errorf("%w %d: its VMSA: %w", ErrVP, config.Index, err)
	}
	if len(vp.page) != snp.VMSA_SIZE {
		return nil, fmt.Errorf("%w %d: its VMSA has %d bytes", ErrVP, config.Index, len(vp.page))
	}
	if err := vp.Reset(); err != nil {
		return nil, err
	}
	if err := p.hw.NewVP(config, vp.gpa); err != nil {
		return nil, fmt.Errorf("%w %d: %w", ErrVP, config.Index, err)
	}
	return vp, nil
}

// Reset puts the VP into power-on state. Its page is an ordinary one meanwhile, so that
// no processor runs from half of it.
func (vp *VP) Reset() error {
	if err := vp.mark(false); err != nil {
		return err
	}
	vp.area, vp.answer, vp.window = vp.power, answer{}, false
	clear(vp.page)
	vp.page[snp.VMSA_GUEST_INTERCEPTS+interceptVector] = interceptVINTR
	if err := vp.area.Encode(vp.page); err != nil {
		return fmt.Errorf("%w %d: %w", ErrVP, vp.index, err)
	}
	return vp.mark(true)
}

// mark makes the page a VMSA, or ends that.
func (vp *VP) mark(is bool) error {
	code, err := vp.hw.RMPAdjust(vp.gpa, snp.RMP_PG_SIZE_4K, VMPL, 0, is)
	switch {
	case err != nil:
		return fmt.Errorf("%w %d: its VMSA: %w: %w", ErrVP, vp.index, ErrHost, err)
	case code != snp.RMP_SUCCESS:
		return fmt.Errorf("%w %d: its VMSA: RMPADJUST: %w, code %d", ErrVP, vp.index, errRefused, code)
	}
	return nil
}

// Kick makes Run return.
func (vp *VP) Kick() { vp.hw.Kick(vp.index) }

// TSC reads the guest's time stamp counter.
func (vp *VP) TSC() uint64 { return vp.hw.TSC(vp.index) }

// Registers reads the general-purpose registers.
func (vp *VP) Registers() (hcl.Registers, error) { return vp.area.Registers, nil }

// SetRegisters writes them.
func (vp *VP) SetRegisters(r *hcl.Registers) error {
	s := vp.area.Special
	vp.area.SetRegisters(r, &s)
	return nil
}

// SpecialRegisters reads the control and segment registers.
func (vp *VP) SpecialRegisters() (hcl.SpecialRegisters, error) { return vp.area.Special, nil }

// SetSpecialRegisters writes them. When those change that say how addresses are
// translated, the processor forgets its translations (§15.36.17).
func (vp *VP) SetSpecialRegisters(s *hcl.SpecialRegisters) error {
	old := &vp.area.Special
	if old.CR0 != s.CR0 || old.CR3 != s.CR3 || old.CR4 != s.CR4 || old.EFER != s.EFER {
		vp.area.PCPUID = 0
	}
	r := vp.area.Registers
	vp.area.SetRegisters(&r, s)
	return nil
}

// SetMSR writes a model-specific register: in the VMSA, or where the machine keeps it.
func (vp *VP) SetMSR(index uint32, value uint64) error {
	if index == x86.IA32_TSC_AUX {
		vp.area.TSCAux = uint32(value)
		return nil
	}
	if field := vp.msr(index); field != nil {
		*field = value
		return nil
	}
	return vp.hw.SetMSR(vp.index, index, value)
}
