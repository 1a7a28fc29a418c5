package tdx

import (
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
)

// passed are the registers that the guest reads and writes without an exit: each is in
// the VMCS or in the context, and the processor judges what is written. The time stamp
// counter it may only read.
var passed = [...]uint32{
	x86.IA32_SYSENTER_CS, x86.IA32_SYSENTER_ESP, x86.IA32_SYSENTER_EIP, x86.IA32_PAT, x86.IA32_STAR, x86.IA32_LSTAR, x86.IA32_CSTAR, x86.IA32_FMASK,
	x86.IA32_FS_BASE, x86.IA32_GS_BASE, x86.IA32_KERNEL_GS_BASE, x86.IA32_TSC_AUX,
}

// bitmaps are the words of the MSR bitmaps that are not all ones, by their number.
var bitmaps = func() map[uint32]uint64 {
	words := map[uint32]uint64{}
	pass := func(part int, index uint32) {
		if index >= tdx.MSR_BITMAP_HIGH_BASE {
			part, index = part+tdx.MSR_BITMAP_READ_HIGH, index-tdx.MSR_BITMAP_HIGH_BASE
		}
		bit := uint32(part)*8 + index
		word, ok := words[bit/64]
		if !ok {
			word = ^uint64(0)
		}
		words[bit/64] = word &^ (1 << (bit % 64))
	}
	pass(tdx.MSR_BITMAP_READ_LOW, x86.IA32_TSC)
	for _, index := range passed {
		pass(tdx.MSR_BITMAP_READ_LOW, index)
		pass(tdx.MSR_BITMAP_WRITE_LOW, index)
	}
	return words
}()

// contextMSR returns the field of the context that holds a register, or nil.
func (vp *VP) contextMSR(index uint32) *uint64 {
	c := &vp.context
	switch index {
	case x86.IA32_STAR:
		return &c.STAR
	case x86.IA32_LSTAR:
		return &c.LSTAR
	case x86.IA32_CSTAR:
		return &c.CSTAR
	case x86.IA32_FMASK:
		return &c.SFMASK
	case x86.IA32_KERNEL_GS_BASE:
		return &c.KernelGSBase
	case x86.IA32_TSC_AUX:
		return &c.TSCAux
	case x86.IA32_XSS:
		return &c.XSS
	}
	return nil
}

// fieldMSR returns the field of the VMCS that holds a register.
func fieldMSR(index uint32) (code uint32, ok bool) {
	switch index {
	case x86.IA32_SYSENTER_CS:
		return tdx.VMCS_SYSENTER_CS, true
	case x86.IA32_SYSENTER_ESP:
		return tdx.VMCS_SYSENTER_ESP, true
	case x86.IA32_SYSENTER_EIP:
		return tdx.VMCS_SYSENTER_EIP, true
	case x86.IA32_PAT:
		return tdx.VMCS_GUEST_PAT, true
	case x86.IA32_FS_BASE:
		return tdx.VMCS_GUEST_ES_BASE + segFS*tdx.VMCS_STEP, true
	case x86.IA32_GS_BASE:
		return tdx.VMCS_GUEST_ES_BASE + segGS*tdx.VMCS_STEP, true
	}
	return 0, false
}

// Indices of segments in the VMCS.
const (
	segFS = 4
	segGS = 5
)

// ownMSR answers an access to EFER or XSS, which the guest must not load as it likes, and
// tells whether it was one.
func (vp *VP) ownMSR(write bool) bool {
	r := &vp.state.Registers
	index, value := uint32(r.RCX), r.RDX<<32|r.RAX&0xffffffff
	if index != x86.IA32_EFER && index != x86.IA32_XSS || vp.exit.Length == 0 {
		return false
	}
	switch {
	case write && index == x86.IA32_EFER && !vp.validEFER(value):
		vp.p.stats.add(countEFER)
		vp.raiseGP()
		return true
	case write && index == x86.IA32_EFER: // LMA is the processor's
		vp.setEFER(value&^eferLMA | vp.efer()&eferLMA)
		vp.nxe = value&eferNXE != 0
	case write && value&^vp.cpuid.SupportedXSS() != 0:
		vp.p.stats.add(countXSS)
		vp.raiseGP()
		return true
	case write:
		vp.context.XSS = value
	default:
		value = vp.context.XSS
		if index == x86.IA32_EFER {
			value = vp.seenEFER()
		}
		r.RAX, r.RDX = value&0xffffffff, value>>32
	}
	return vp.skip()
}

// seenEFER is EFER as the guest reads it.
func (vp *VP) seenEFER() uint64 {
	v := vp.efer()
	if !vp.nxe {
		v &^= eferNXE
	}
	return v
}

// setBitmaps lets the guest at the registers that are passed.
func (vp *VP) setBitmaps() {
	for word := range uint32(tdx.MSR_BITMAP_WORDS) {
		value, ok := bitmaps[word]
		if !ok {
			value = ^uint64(0)
		}
		vp.write(l2.MSRBitmapField(VM, word), value, ^uint64(0))
	}
}
