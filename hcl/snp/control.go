package snp

import (
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// Bits of control registers (APM vol. 2 §3.1).
const (
	cr0PE = 1 << 0
	cr0WP = 1 << 16
	cr0NW = 1 << 29
	cr0CD = 1 << 30
	cr0PG = 1 << 31

	cr4PAE     = 1 << 5
	cr4VMXE    = 1 << 13
	cr4OSXSAVE = 1 << 18
	cr4PKE     = 1 << 22
	cr4CET     = 1 << 23

	// VME to UMIP, LA57, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP, PKE, CET.
	cr4Defined = 0xfff | 1<<12 | 3<<16 | cr4OSXSAVE | 3<<20 | cr4PKE | cr4CET

	eferLME = 1 << 8
	eferLMA = 1 << 10
	// SCE, LME, LMA, NXE, FFXSR, TCE, MCOMMIT, INTWB, UAIE, AIBRSE; neither SVME nor
	// LMSLE, which is gone from processors with SNP.
	eferDefined = 1 | eferLME | eferLMA | 1<<11 | 3<<14 | 3<<17 | 3<<20
)

// checkControl judges a control register that the guest has written (§15.34.9). The trap
// comes behind the instruction: a value that a guest must not have is put back to what
// it was, and the guest gets #GP.
func (vp *VP) checkControl(code uint64) {
	s := &vp.area.Special
	bad, count := false, countCR
	switch code {
	case snp.EXIT_CR0_WRITE_TRAP:
		bad = s.CR0>>32 != 0 || s.CR0&(cr0NW|cr0CD) == cr0NW || s.CR0&(cr0PG|cr0PE) == cr0PG ||
			s.CR4&cr4CET != 0 && s.CR0&cr0WP == 0 || s.CR0&cr0PG != 0 && s.EFER&eferLME != 0 && s.CR4&cr4PAE == 0
	case snp.EXIT_CR4_WRITE_TRAP:
		bad = s.CR4&^cr4Defined != 0 || s.CR4&cr4VMXE != 0 || s.EFER&eferLMA != 0 && s.CR4&cr4PAE == 0 ||
			s.CR4&cr4CET != 0 && s.CR0&cr0WP == 0 || s.CR4&cr4OSXSAVE != 0 && !vp.cpuid.HasXSave()
	case snp.EXIT_EFER_WRITE_TRAP:
		bad, count = !vp.validEFER(s.EFER), countEFER
	}
	if !bad {
		return
	}
	vp.p.stats.add(count)
	switch code {
	case snp.EXIT_CR0_WRITE_TRAP:
		s.CR0 = vp.cr0
	case snp.EXIT_CR4_WRITE_TRAP:
		s.CR4 = vp.cr4
	default:
		s.EFER = vp.efer
	}
	vp.raiseGP()
}

// validEFER tells whether a guest may load a value into EFER. LME does not change while
// paging is on (§14.6.1).
func (vp *VP) validEFER(v uint64) bool {
	paging := vp.area.Special.CR0&cr0PG != 0
	return v&^eferDefined == 0 && (!paging || (v^vp.efer)&eferLME == 0)
}

// ownMSR answers an access to a register of the VMSA, and tells whether it was one.
func (vp *VP) ownMSR() bool {
	a := &vp.area
	r := &a.Registers
	index, write := uint32(r.RCX), a.Exit.Info1 == snp.MSR_WRITE
	value := r.RDX<<32 | r.RAX&0xffffffff
	field := vp.msr(index)
	aux := uint64(a.TSCAux)
	switch {
	case a.Exit.NRIP == 0:
		return false
	case index == x86.IA32_EFER:
		field = &a.Special.EFER
	case index == x86.IA32_XSS:
		field = &a.XSS
	case index == x86.IA32_TSC_AUX:
		field = &aux
	}
	switch {
	case field == nil:
		return false
	case write && !vp.validMSR(index, value):
		vp.raiseGP()
		return true
	case write && index == x86.IA32_EFER: // LMA is the processor's
		*field = value&^eferLMA | *field&eferLMA
	case write:
		*field = value
		a.TSCAux = uint32(aux)
	default:
		r.RAX, r.RDX = *field&0xffffffff, *field>>32
	}
	return vp.skip()
}

// validMSR tells whether a guest may write a value into a register of the VMSA.
func (vp *VP) validMSR(index uint32, v uint64) bool {
	switch index {
	case x86.IA32_EFER:
		if !vp.validEFER(v) {
			vp.p.stats.add(countEFER)
			return false
		}
	case x86.IA32_XSS:
		if v&^vp.cpuid.SupportedXSS() != 0 {
			vp.p.stats.add(countXSS)
			return false
		}
	case x86.IA32_PAT:
		for ; v != 0; v >>= 8 {
			if t := v & 0xff; t > 7 || t == 2 || t == 3 { // §7.8.1
				return false
			}
		}
	case x86.IA32_LSTAR, x86.IA32_CSTAR, x86.IA32_KERNEL_GS_BASE, x86.IA32_FS_BASE, x86.IA32_GS_BASE, x86.IA32_SYSENTER_ESP, x86.IA32_SYSENTER_EIP:
		return canonical(v)
	case x86.IA32_TSC_AUX:
		return v>>32 == 0
	}
	return true
}

// canonical tells whether an address has the upper bits that 57-bit addressing wants
// (§1.1.3), which holds for 48 bits too.
func canonical(v uint64) bool {
	const shift = 64 - 57
	return uint64(int64(v<<shift)>>shift) == v
}
