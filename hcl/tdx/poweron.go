package tdx

import (
	"fmt"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/leaves"
	"keel/hcl/tdx/l2"
)

// State after a reset (Intel SDM vol. 3, table "IA-32 and Intel 64 Processor States
// Following Power-up, Reset, or INIT").
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
	resetXCR0   = 1

	typeCode    = 0xb // accessed, readable
	typeData    = 0x3 // accessed, writable
	typeLDT     = 0x2
	typeBusyTSS = 0xb
)

// powerOn are the control and segment registers after power-on.
func powerOn() hcl.SpecialRegisters {
	data := hcl.Segment{Limit: resetLimit, Attributes: hcl.SegPresent | hcl.SegNonSystem | typeData}
	code := hcl.Segment{Base: resetBase, Limit: resetLimit, Selector: resetCS, Attributes: hcl.SegPresent | hcl.SegNonSystem | typeCode}
	system := func(kind uint32) hcl.Segment {
		return hcl.Segment{Limit: resetLimit, Attributes: hcl.SegPresent | kind}
	}
	return hcl.SpecialRegisters{
		CS: code, DS: data, ES: data, FS: data, GS: data, SS: data,
		TR: system(typeBusyTSS), LDT: system(typeLDT),
		GDT: hcl.Table{Limit: resetLimit}, IDT: hcl.Table{Limit: resetLimit},
		CR0: resetCR0,
	}
}

// cleared are fields of the VMCS that are zero after power-on.
var cleared = [...]uint32{
	tdx.VMCS_GUEST_DEBUGCTL, tdx.VMCS_INTERRUPTIBILITY, tdx.VMCS_PENDING_DEBUG, tdx.VMCS_ENTRY_INTERRUPTION,
	tdx.VMCS_SYSENTER_CS, tdx.VMCS_SYSENTER_ESP, tdx.VMCS_SYSENTER_EIP,
	tdx.VMCS_GUEST_S_CET, tdx.VMCS_GUEST_SSP_TABLE, tdx.VMCS_TPR_THRESHOLD,
}

// Reset puts the VP into power-on state.
func (vp *VP) Reset() error {
	vp.state = l2.EnterState{Registers: hcl.Registers{RIP: resetRIP, RFLAGS: resetRFLAGS}}
	if e := vp.cpuid.Lookup(leaves.Features, 0); e != nil {
		vp.state.Registers.RDX = uint64(e.EAX) // family, model and stepping
	}
	vp.context = l2.Context{DR6: resetDR6, XCR0: resetXCR0}
	vp.answer, vp.event, vp.pending, vp.nmi, vp.window, vp.nxe = answer{}, l2.Event{}, false, false, false, false
	clear(vp.apic)
	for _, code := range cleared {
		vp.set(code, 0)
	}
	vp.threshold, vp.blocking, vp.blocked = 0, 0, true
	vp.set(tdx.VMCS_GUEST_DR7, resetDR7)
	vp.set(tdx.VMCS_GUEST_PAT, resetPAT)
	s := powerOn()
	vp.known = false
	vp.fetch()
	vp.store(&s)
	// The module's own start values look like these, but its shadows do not.
	vp.setEFER(s.EFER)
	vp.setCR0(s.CR0)
	vp.setCR4(s.CR4)
	vp.invalidate = tdx.INVALIDATE_INVVPID
	if err := vp.failure(ErrVP); err != nil {
		return err
	}
	if err := vp.hw.Reset(vp.index); err != nil {
		return fmt.Errorf("%w %d: %w", ErrVP, vp.index, err)
	}
	return nil
}

// Controls that must be set for the guest to exit where Keel expects it: the module sets
// them (ABI, "L2 VMCS").
const needed = tdx.PROCESSOR_HLT | tdx.PROCESSOR_TPR_SHADOW | tdx.PROCESSOR_IO | tdx.PROCESSOR_MSR_BITMAPS

// setUp writes what stays as it is: controls, MSR bitmaps, and which bits of CR0 and CR4
// the guest does not have. Interrupts come from Keel, so that the processor delivers none
// itself, and the guest's calls to the module come to Keel.
func (vp *VP) setUp(apic x86.GPA) error {
	vp.put(tdx.VMCS_VIRTUAL_APIC, uint64(apic), tdx.L2_VAPIC_WRITABLE)
	if controls := vp.get(tdx.VMCS_PROCESSOR_CONTROLS); vp.failed == nil && controls&needed != needed {
		return fmt.Errorf("%w %d: processor controls %#x lack some of %#x", ErrVP, vp.index, controls, uint64(needed))
	}
	vp.put(tdx.VMCS_PROCESSOR_CONTROLS, 0, windows)
	vp.put(tdx.VMCS_SECONDARY_CONTROLS, 0, tdx.SECONDARY_INTERRUPT_DELIVERY)
	vp.write(tdx.VP_L2_CTLS+VM, 0, tdx.L2_CTLS_WRITABLE)
	vp.set(tdx.VMCS_CR0_MASK, cr0Owned)
	vp.set(tdx.VMCS_CR4_MASK, vp.p.cr4Owned())
	vp.setBitmaps()
	return vp.failure(ErrVP)
}
