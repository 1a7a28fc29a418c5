package snp

import (
	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
	"keel/hcl/leaves"
	"keel/hcl/snp/vmsa"
)

// features are the SEV_FEATURES of a VMSA (APM vol. 2 table B-4): private memory without
// a C bit in the guest's page tables, exits in place of #VC, interrupts from Keel alone,
// debug registers that hardware switches, and an exit when the guest takes interrupts.
const features = snp.SEV_FEATURE_SNP_ACTIVE | snp.SEV_FEATURE_VTOM | snp.SEV_FEATURE_REFLECT_VC |
	snp.SEV_FEATURE_ALTERNATE_INJ | snp.SEV_FEATURE_DEBUG_SWAP | snp.SEV_FEATURE_GUEST_INTERCEPT_CTL

// virtualTOM is where the guest's private addresses end (§15.36.8): above everything
// that a guest has.
const virtualTOM = 1 << 46

// The intercept of VINTR, by the byte in which its vector begins and its bit (APM vol. 2
// table B-1, offset 00Ch).
const (
	interceptVector = 12
	interceptVINTR  = 1 << 4
)

// State after a reset (APM vol. 2 tables 14-1 and 7-9, §13.1.1, §11.5.7).
const (
	resetCR0    = 0x60000010
	resetRIP    = 0xfff0
	resetRFLAGS = 2
	resetCS     = 0xf000
	resetBase   = 0xffff0000
	resetLimit  = 0xffff
	resetDR6    = 0xffff0ff0
	resetDR7    = 0x400
	resetPAT    = 0x0007040600070406
	resetMXCSR  = 0x1f80
	resetFCW    = 0x40
	resetXCR0   = 1

	typeCode    = 0xb // accessed, readable
	typeData    = 0x3 // accessed, writable
	typeLDT     = 0x2
	typeBusyTSS = 0xb
)

// powerOn is the state of a VP after power-on.
func powerOn(config hcl.VPConfig) vmsa.SaveArea {
	data := hcl.Segment{Limit: resetLimit, Attributes: hcl.SegPresent | hcl.SegNonSystem | typeData}
	code := hcl.Segment{Base: resetBase, Limit: resetLimit, Selector: resetCS, Attributes: hcl.SegPresent | hcl.SegNonSystem | typeCode}
	system := func(kind uint32) hcl.Segment {
		return hcl.Segment{Limit: resetLimit, Attributes: hcl.SegPresent | kind}
	}
	a := vmsa.SaveArea{
		Special: hcl.SpecialRegisters{
			CS: code, DS: data, ES: data, FS: data, GS: data, SS: data,
			TR: system(typeBusyTSS), LDT: system(typeLDT),
			GDT: hcl.Table{Limit: resetLimit}, IDT: hcl.Table{Limit: resetLimit},
			CR0: resetCR0,
		},
		Registers: hcl.Registers{RIP: resetRIP, RFLAGS: resetRFLAGS},
		VMPL:      VMPL, SVME: true,
		DR6: resetDR6, DR7: resetDR7, XCR0: resetXCR0, PAT: resetPAT, MXCSR: resetMXCSR, X87FCW: resetFCW,
		Features: features, VirtualTOM: virtualTOM,
		VINTR: snp.VINTR_BUSY | snp.VINTR_GIF | snp.VINTR_NMI_ENABLE,
	}
	if e := leaves.Table(config.CPUID).Lookup(leaves.Features, 0); e != nil {
		a.Registers.RDX = uint64(e.EAX) // family, model and stepping
	}
	return a
}

// msr returns the field that holds a register, or nil. TSC_AUX, of four bytes, is not
// among them, nor EFER, of which a guest must not set all.
func (vp *VP) msr(index uint32) *uint64 {
	a := &vp.area
	switch index {
	case x86.IA32_SYSENTER_CS:
		return &a.SysenterCS
	case x86.IA32_SYSENTER_ESP:
		return &a.SysenterESP
	case x86.IA32_SYSENTER_EIP:
		return &a.SysenterEIP
	case x86.IA32_PAT:
		return &a.PAT
	case x86.IA32_STAR:
		return &a.STAR
	case x86.IA32_LSTAR:
		return &a.LSTAR
	case x86.IA32_CSTAR:
		return &a.CSTAR
	case x86.IA32_FMASK:
		return &a.SFMASK
	case x86.IA32_FS_BASE:
		return &a.Special.FS.Base
	case x86.IA32_GS_BASE:
		return &a.Special.GS.Base
	case x86.IA32_KERNEL_GS_BASE:
		return &a.KernelGSBase
	}
	return nil
}
