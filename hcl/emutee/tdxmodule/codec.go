package tdxmodule

import (
	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/tdx/l2"
)

// Special returns an L2's control and segment registers as the L2 sees them: bits of CR0
// and CR4 that L1 or the module owns come from the read shadow. What runs the L2 in the
// hardware's place has to give it these. Preconditions: the VM exists.
func (v *VP) Special(vm int) hcl.SpecialRegisters {
	s := hcl.SpecialRegisters{
		CR0: v.seen(vm, tdx.VMCS_GUEST_CR0, tdx.VMCS_CR0_MASK, tdx.VMCS_CR0_SHADOW, baseCR0Mask, baseCR0Shadow),
		CR2: v.l2[vm].cr2,
		CR3: v.get(vm, tdx.VMCS_GUEST_CR3),
		CR4: v.seen(vm, tdx.VMCS_GUEST_CR4, tdx.VMCS_CR4_MASK, tdx.VMCS_CR4_SHADOW, v.td.baseCR4Mask(), baseCR4Shadow),

		EFER: v.get(vm, tdx.VMCS_GUEST_EFER),
		GDT:  hcl.Table{Base: v.get(vm, tdx.VMCS_GUEST_GDTR_BASE), Limit: uint16(v.get(vm, tdx.VMCS_GUEST_GDTR_LIMIT))},
		IDT:  hcl.Table{Base: v.get(vm, tdx.VMCS_GUEST_IDTR_BASE), Limit: uint16(v.get(vm, tdx.VMCS_GUEST_IDTR_LIMIT))},
	}
	for i, g := range l2.Segments(&s) {
		*g = v.segment(vm, uint32(i))
	}
	return s
}

// segment reads a segment register; the index is that of its fields.
func (v *VP) segment(vm int, i uint32) hcl.Segment {
	return hcl.Segment{
		Base:       v.get(vm, tdx.VMCS_GUEST_ES_BASE+i*tdx.VMCS_STEP),
		Limit:      uint32(v.get(vm, tdx.VMCS_GUEST_ES_LIMIT+i*tdx.VMCS_STEP)),
		Selector:   uint16(v.get(vm, tdx.VMCS_GUEST_ES_SELECTOR+i*tdx.VMCS_STEP)),
		Attributes: uint32(v.get(vm, tdx.VMCS_GUEST_ES_AR+i*tdx.VMCS_STEP)),
	}
}

// seen is what the L2 reads from a control register (SDM vol. 3, "Guest/Host Masks and
// Read Shadows"; TD Partitioning, "L2 CR0 and CR4"): L1's shadow of the bits that L1 owns,
// the module's of the rest that the module owns.
func (v *VP) seen(vm int, register, mask, shadow uint32, baseMask, baseShadow uint64) uint64 {
	l1 := v.get(vm, mask)
	base := baseMask &^ l1
	return v.get(vm, register)&^(l1|base) | v.get(vm, shadow)&l1 | baseShadow&base
}

// SetSpecial stores the registers of an L2 that has been left, as hardware does. Bits of
// CR0 and CR4 that are not the L2's keep their values in the register; where what ran the
// L2 let it change one that L1 owns, the change goes to L1's read shadow, as though L1
// had been asked and agreed. EFER.NXE is always set. Preconditions: the VM exists.
func (v *VP) SetSpecial(vm int, s *hcl.SpecialRegisters) {
	v.setSeen(vm, s.CR0, tdx.VMCS_GUEST_CR0, tdx.VMCS_CR0_MASK, tdx.VMCS_CR0_SHADOW, baseCR0Mask)
	v.setSeen(vm, s.CR4, tdx.VMCS_GUEST_CR4, tdx.VMCS_CR4_MASK, tdx.VMCS_CR4_SHADOW, v.td.baseCR4Mask())
	v.l2[vm].cr2 = s.CR2
	v.set(vm, tdx.VMCS_GUEST_CR3, s.CR3)
	v.set(vm, tdx.VMCS_GUEST_EFER, s.EFER&tdx.L2_EFER_WRITABLE|eferNXE)
	entry := v.get(vm, tdx.VMCS_ENTRY_CONTROLS) &^ tdx.ENTRY_IA32E
	if s.EFER&eferLMA != 0 {
		entry |= tdx.ENTRY_IA32E // exits save it there
	}
	v.set(vm, tdx.VMCS_ENTRY_CONTROLS, entry)
	v.set(vm, tdx.VMCS_GUEST_GDTR_BASE, s.GDT.Base)
	v.set(vm, tdx.VMCS_GUEST_GDTR_LIMIT, uint64(s.GDT.Limit))
	v.set(vm, tdx.VMCS_GUEST_IDTR_BASE, s.IDT.Base)
	v.set(vm, tdx.VMCS_GUEST_IDTR_LIMIT, uint64(s.IDT.Limit))
	for i, g := range l2.Segments(s) {
		at := uint32(i) * tdx.VMCS_STEP
		v.set(vm, tdx.VMCS_GUEST_ES_BASE+at, g.Base)
		v.set(vm, tdx.VMCS_GUEST_ES_LIMIT+at, uint64(g.Limit))
		v.set(vm, tdx.VMCS_GUEST_ES_SELECTOR+at, uint64(g.Selector))
		v.set(vm, tdx.VMCS_GUEST_ES_AR+at, uint64(g.Attributes))
	}
}

func (v *VP) setSeen(vm int, value uint64, register, mask, shadow uint32, baseMask uint64) {
	l1 := v.get(vm, mask)
	owned := l1 | baseMask
	v.set(vm, register, v.get(vm, register)&owned|value&^owned)
	v.set(vm, shadow, v.get(vm, shadow)&^l1|value&l1)
}

// Bits of EFER (AMD64 APM vol. 2 §3.1.7).
const (
	eferLME = 1 << 8
	eferLMA = 1 << 10
	eferNXE = 1 << 11
)
