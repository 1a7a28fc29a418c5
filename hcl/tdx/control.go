package tdx

import (
	"keel/hcl"
	"keel/hcl/abi/tdx"
)

// Bits of control registers (SDM vol. 3 §2.2.1, §2.5).
const (
	cr0PE = 1 << 0
	cr0ET = 1 << 4
	cr0WP = 1 << 16
	cr0NW = 1 << 29
	cr0CD = 1 << 30
	cr0PG = 1 << 31
	// PE, MP, EM, TS, ET, NE, WP, AM, NW, CD, PG. Others among the lower 32 read as zero.
	cr0Defined = 0x3f | cr0WP | 1<<18 | cr0NW | cr0CD | cr0PG
	lmswMask   = 0xf

	cr4PAE     = 1 << 5
	cr4LA57    = 1 << 12
	cr4PCIDE   = 1 << 17
	cr4OSXSAVE = 1 << 18
	cr4KL      = 1 << 19
	cr4PKE     = 1 << 22
	cr4CET     = 1 << 23
	cr4PKS     = 1 << 24
	cr4UINTR   = 1 << 25
	// VME to UMIP, LA57, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP, PKE, CET, PKS, UINTR.
	cr4Defined = 0xfff | cr4LA57 | 3<<16 | cr4OSXSAVE | 0x3f<<20

	eferLME     = 1 << 8
	eferLMA     = 1 << 10
	eferNXE     = 1 << 11
	eferDefined = 1 | eferLME | eferLMA | eferNXE // and SCE
)

// accessCR executes a MOV to CR0 or CR4, or an LMSW, that changes a bit of Keel's. It
// returns false for any other access.
func (vp *VP) accessCR() bool {
	q := vp.exit.Qualification
	number := q & tdx.CR_NUMBER_MASK
	value := *gpr(&vp.state.Registers, q>>tdx.CR_GPR_SHIFT&tdx.CR_GPR_MASK)
	if vp.cs&hcl.SegLong == 0 {
		value &= 0xffffffff
	}
	ok := false
	switch kind := q >> tdx.CR_TYPE_SHIFT & tdx.CR_TYPE_MASK; {
	case vp.exit.Length == 0:
		return false
	case kind == tdx.CR_MOV_TO && number == 0:
		ok = vp.moveCR0(value)
	case kind == tdx.CR_MOV_TO && number == 4:
		ok = vp.moveCR4(value)
	case kind == tdx.CR_LMSW: // PE cannot be cleared
		now := vp.cr0()
		ok = vp.moveCR0(now&^(lmswMask&^cr0PE) | q>>tdx.CR_LMSW_SHIFT&lmswMask)
	default:
		return false
	}
	if !ok {
		vp.p.stats.add(countCR)
		vp.raiseGP()
		return true
	}
	return vp.skip()
}

// gpr returns a general-purpose register by its number.
func gpr(r *hcl.Registers, n uint64) *uint64 {
	return [...]*uint64{
		&r.RAX, &r.RCX, &r.RDX, &r.RBX, &r.RSP, &r.RBP, &r.RSI, &r.RDI,
		&r.R8, &r.R9, &r.R10, &r.R11, &r.R12, &r.R13, &r.R14, &r.R15,
	}[n&tdx.CR_GPR_MASK]
}

// moveCR0 loads CR0 as MOV does (SDM vol. 2, "MOV—Move to/from Control Registers"), with
// the switch into long mode and out of it. It returns false where that is #GP.
func (vp *VP) moveCR0(v uint64) bool {
	vp.fetch()
	s := &vp.special
	if v>>32 != 0 || v&(cr0NW|cr0CD) == cr0NW || v&(cr0PG|cr0PE) == cr0PG || s.CR4&cr4CET != 0 && v&cr0WP == 0 {
		return false
	}
	v = v&cr0Defined | cr0ET
	efer := s.EFER &^ eferLMA
	if v&cr0PG != 0 && efer&eferLME != 0 {
		if s.CR4&cr4PAE == 0 || s.CR0&cr0PG == 0 && s.CS.Attributes&hcl.SegLong != 0 {
			return false
		}
		efer |= eferLMA
	}
	if v&cr0PG == 0 && s.CR0&cr0PG != 0 && (s.CR4&cr4PCIDE != 0 || s.EFER&eferLMA != 0 && s.CS.Attributes&hcl.SegLong != 0) {
		return false
	}
	old := *s
	vp.setEFER(efer)
	vp.setCR0(v)
	vp.invalidate = tdx.INVALIDATE_INVVPID
	const paging = cr0PG | cr0CD | cr0NW
	if (old.CR0^v)&paging != 0 && !vp.loadPDPTEs() {
		vp.setEFER(old.EFER)
		vp.setCR0(old.CR0)
		return false
	}
	return true
}

// moveCR4 loads CR4, likewise.
func (vp *VP) moveCR4(v uint64) bool {
	vp.fetch()
	s := &vp.special
	// What Keel owns the guest must not have, but for MCE, which is always on.
	lacks := vp.p.cr4Owned() &^ cr4MCE
	long := s.EFER&eferLMA != 0
	switch {
	case v&^cr4Defined != 0, v&lacks != 0, v&cr4CET != 0 && s.CR0&cr0WP == 0, v&cr4OSXSAVE != 0 && !vp.cpuid.HasXSave():
		return false
	case long && (v&cr4PAE == 0 || (v^s.CR4)&cr4LA57 != 0):
		return false
	case v&cr4PCIDE != 0 && s.CR4&cr4PCIDE == 0 && (!long || s.CR3&0xfff != 0):
		return false
	}
	old := *s
	vp.setCR4(v)
	vp.invalidate = tdx.INVALIDATE_INVVPID
	const paging = cr4PAE | cr4PSE | cr4PGE | cr4SMEP
	if (old.CR4^v)&paging != 0 && !vp.loadPDPTEs() {
		vp.setCR4(old.CR4)
		return false
	}
	return true
}

// Bits of CR4 whose change reads the page-directory pointers again (SDM vol. 3, "PDPTE
// Registers"), and MCE.
const (
	cr4PSE  = 1 << 4
	cr4MCE  = 1 << 6
	cr4PGE  = 1 << 7
	cr4SMEP = 1 << 20
)

// validEFER tells whether a guest may load a value into EFER. LME does not change while
// paging is on, and LMA is the processor's.
func (vp *VP) validEFER(v uint64) bool {
	return v&^eferDefined == 0 && (vp.cr0()&cr0PG == 0 || (v^vp.efer())&eferLME == 0)
}
