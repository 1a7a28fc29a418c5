package kvm

import (
	"keel/hcl"
	"keel/hcl/abi/kvm"
)

// SpecialRegisters reads the control and segment registers.
func (vp *VP) SpecialRegisters() (hcl.SpecialRegisters, error) {
	var k kvm.SRegs
	if err := exchange("KVM_GET_SREGS", kvm.GET_SREGS, &k)(vp.fd); err != nil {
		return hcl.SpecialRegisters{}, err
	}
	return hcl.SpecialRegisters{
		CS: fromKVM(k.Cs), DS: fromKVM(k.Ds), ES: fromKVM(k.Es), FS: fromKVM(k.Fs), GS: fromKVM(k.Gs), SS: fromKVM(k.Ss),
		TR: fromKVM(k.Tr), LDT: fromKVM(k.Ldt),
		GDT: hcl.Table{Base: k.Gdt.Base, Limit: k.Gdt.Limit},
		IDT: hcl.Table{Base: k.Idt.Base, Limit: k.Idt.Limit},
		CR0: k.Cr0, CR2: k.Cr2, CR3: k.Cr3, CR4: k.Cr4, EFER: k.Efer,
	}, nil
}

// SetSpecialRegisters writes the control and segment registers.
func (vp *VP) SetSpecialRegisters(r *hcl.SpecialRegisters) error {
	k := vp.powerOn.sregs // APIC base and pending interrupts as at power-on
	k.Cs, k.Ds, k.Es, k.Fs, k.Gs, k.Ss = toKVM(r.CS), toKVM(r.DS), toKVM(r.ES), toKVM(r.FS), toKVM(r.GS), toKVM(r.SS)
	k.Tr, k.Ldt = toKVM(r.TR), toKVM(r.LDT)
	k.Gdt = kvm.DTable{Base: r.GDT.Base, Limit: r.GDT.Limit}
	k.Idt = kvm.DTable{Base: r.IDT.Base, Limit: r.IDT.Limit}
	k.Cr0, k.Cr2, k.Cr3, k.Cr4, k.Efer = r.CR0, r.CR2, r.CR3, r.CR4, r.EFER
	return exchange("KVM_SET_SREGS", kvm.SET_SREGS, &k)(vp.fd)
}

// fromKVM packs KVM's exploded attributes into the access-rights format.
func fromKVM(s kvm.Segment) hcl.Segment {
	a := uint32(s.Type)&hcl.SegTypeMask | uint32(s.Dpl)&3<<hcl.SegDPLShift
	for _, f := range flags(&s) {
		if *f.field != 0 {
			a |= f.bit
		}
	}
	return hcl.Segment{Base: s.Base, Limit: s.Limit, Selector: s.Selector, Attributes: a}
}

// toKVM is the inverse of fromKVM.
func toKVM(s hcl.Segment) kvm.Segment {
	k := kvm.Segment{
		Base: s.Base, Limit: s.Limit, Selector: s.Selector,
		Type: uint8(s.Attributes & hcl.SegTypeMask),
		Dpl:  uint8(s.Attributes >> hcl.SegDPLShift & 3),
	}
	for _, f := range flags(&k) {
		if s.Attributes&f.bit != 0 {
			*f.field = 1
		}
	}
	return k
}

// flag ties a field of KVM's segment to its bit in the attributes.
type flag struct {
	field *uint8
	bit   uint32
}

func flags(s *kvm.Segment) []flag {
	return []flag{
		{&s.S, hcl.SegNonSystem},
		{&s.Present, hcl.SegPresent},
		{&s.Avl, hcl.SegAvailable},
		{&s.L, hcl.SegLong},
		{&s.Db, hcl.SegDefaultBig},
		{&s.G, hcl.SegGranularity},
		{&s.Unusable, hcl.SegUnusable},
	}
}
