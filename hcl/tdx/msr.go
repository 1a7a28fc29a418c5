package tdx

import (
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
)

// Model-specific registers (Intel SDM vol. 4 table 2-2).
const (
	msrTSC          = x86.IA32_TSC
	msrSysenterCS   = 0x174
	msrSysenterESP  = 0x175
	msrSysenterEIP  = 0x176
	msrPAT          = 0x277
	msrXSS          = 0xda0
	msrEFER         = 0xc0000080
	msrSTAR         = 0xc0000081
	msrLSTAR        = 0xc0000082
	msrCSTAR        = 0xc0000083
	msrSFMASK       = 0xc0000084
	msrFSBase       = 0xc0000100
	msrGSBase       = 0xc0000101
	msrKernelGSBase = 0xc0000102
	msrTSCAux       = 0xc0000103
)

// passed are the registers that the guest reads and writes without an exit: each is in
// the VMCS or in the context, and the processor judges what is written. The time stamp
// counter it may only read.
var passed = [...]uint32{
	msrSysenterCS, msrSysenterESP, msrSysenterEIP, msrPAT, msrSTAR, msrLSTAR, msrCSTAR, msrSFMASK,
	msrFSBase, msrGSBase, msrKernelGSBase, msrTSCAux,
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
	pass(tdx.MSR_BITMAP_READ_LOW, msrTSC)
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
	case msrSTAR:
		return &c.STAR
	case msrLSTAR:
		return &c.LSTAR
	case msrCSTAR:
		return &c.CSTAR
	case msrSFMASK:
		return &c.SFMASK
	case msrKernelGSBase:
		return &c.KernelGSBase
	case msrTSCAux:
		return &c.TSCAux
	case msrXSS:
		return &c.XSS
	}
	return nil
}

// fieldMSR returns the field of the VMCS that holds a register.
func fieldMSR(index uint32) (code uint32, ok bool) {
	switch index {
	case msrSysenterCS:
		return tdx.VMCS_SYSENTER_CS, true
	case msrSysenterESP:
		return tdx.VMCS_SYSENTER_ESP, true
	case msrSysenterEIP:
		return tdx.VMCS_SYSENTER_EIP, true
	case msrPAT:
		return tdx.VMCS_GUEST_PAT, true
	case msrFSBase:
		return tdx.VMCS_GUEST_ES_BASE + segFS*tdx.VMCS_STEP, true
	case msrGSBase:
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
	if index != msrEFER && index != msrXSS || vp.exit.Length == 0 {
		return false
	}
	switch {
	case write && index == msrEFER && !vp.validEFER(value):
		vp.p.stats.add(countEFER)
		vp.raiseGP()
		return true
	case write && index == msrEFER: // LMA is the processor's
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
		if index == msrEFER {
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
