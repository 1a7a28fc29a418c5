package tdxmodule

import "keel/hcl/abi/tdx"

// vmcsRow is one row of the table of an L2's VMCS: number fields from a code on, what L1
// reads and writes of them, and what they hold when the VP is made (ABI, "L2 VMCS").
type vmcsRow struct {
	code, number      uint32
	read, write, init uint64
}

const (
	all  = 1<<64 - 1 // cut to the field's size
	null = 1<<64 - 1 // an address that has not been set
)

// vmcsRows lists all fields that a TD's VMCS has, in the order of their codes.
var vmcsRows = [...]vmcsRow{
	{0x0000, 1, 0, 0, 0}, // VPID
	{tdx.VMCS_POSTED_NOTIFICATION, 1, all, 0, all},
	{0x0004, 1, 0, 0, 0},     // EPTP index
	{0x0006, 1, all, all, 0}, // HLAT prefix size
	{tdx.VMCS_GUEST_ES_SELECTOR, tdx.VMCS_SEGMENTS, all, all, 0},
	{tdx.VMCS_GUEST_INTERRUPT, 1, all, all, 0},
	{0x0812, 1, 0, 0, 0},      // PML index
	{0x0814, 1, all, all, 0},  // UINV
	{0x2000, 2, all, 0, null}, // I/O bitmaps
	{0x2004, 7, 0, 0, 0},      // MSR bitmap, MSR lists, executive VMCS, PML, TSC offset
	{tdx.VMCS_VIRTUAL_APIC, 1, all, tdx.L2_VAPIC_WRITABLE, null},
	{0x2014, 1, 0, 0, 0}, // APIC access
	{tdx.VMCS_POSTED_DESCRIPTOR, 1, all, 0, null},
	{0x2018, 1, all, 0, 0}, // VM-function controls
	{tdx.VMCS_EPTP, 1, tdx.L2_EPTP_READABLE, tdx.EPTP_SSS, eptpInit},
	{tdx.VMCS_EOI_EXIT_0, 4, all, all, 0},
	{0x2024, 3, 0, 0, 0},      // EPTP list, VMREAD and VMWRITE bitmaps
	{0x202A, 1, all, 0, null}, // #VE information
	{tdx.VMCS_XSS_EXITING, 1, all, all, 0},
	{0x202E, 1, all, 0, all}, // ENCLS exiting
	{0x2032, 1, 0, 0, 0},     // TSC multiplier
	{tdx.VMCS_TERTIARY_CONTROLS, 1, all, tdx.L2_TERTIARY_WRITABLE, tdx.L2_TERTIARY_INIT},
	{0x2036, 1, all, 0, all}, // ENCLV exiting
	{0x2038, 2, 0, 0, 0},     // PASID directories
	{tdx.VMCS_SHARED_EPTP, 1, 0, 0, 0},
	{0x203E, 1, 0, 0, 0}, // PCONFIG exiting
	{tdx.VMCS_HLAT_POINTER, 1, all, tdx.L2_HLAT_WRITABLE, 0},
	{0x204A, 2, 0, 0, 0}, // IA32_SPEC_CTRL mask and shadow
	{tdx.VMCS_GUEST_PHYSICAL, 1, all, all, 0},
	{0x2800, 1, 0, 0, 0}, // VMCS link
	{tdx.VMCS_GUEST_DEBUGCTL, 1, tdx.L2_DEBUGCTL_READABLE, tdx.L2_DEBUGCTL_WRITABLE, 0},
	{tdx.VMCS_GUEST_PAT, 1, all, all, patInit},
	{tdx.VMCS_GUEST_EFER, 1, all, tdx.L2_EFER_WRITABLE, tdx.L2_EFER_INIT},
	{tdx.VMCS_GUEST_PERF_GLOBAL, 1, all, all, 0xFF},
	{tdx.VMCS_GUEST_PDPTE_0, 4, all, all, null},
	{0x2814, 3, all, all, 0}, // IA32_RTIT_CTL, IA32_LBR_CTL, IA32_PKRS
	{tdx.VMCS_PIN_CONTROLS, 1, all, 0, tdx.L2_PIN_INIT},
	{tdx.VMCS_PROCESSOR_CONTROLS, 1, all, tdx.L2_PROCESSOR_WRITABLE, tdx.L2_PROCESSOR_INIT},
	{tdx.VMCS_EXCEPTION_BITMAP, 1, all, tdx.L2_EXCEPTION_WRITABLE, 1 << tdx.VECTOR_MC},
	{0x4006, 3, all, all, 0}, // page-fault mask and match, CR3-target count
	{tdx.VMCS_EXIT_CONTROLS, 1, all, 0, tdx.L2_EXIT_INIT},
	{0x400E, 2, 0, 0, 0}, // counts of MSR lists
	{tdx.VMCS_ENTRY_CONTROLS, 1, all, tdx.L2_ENTRY_WRITABLE, tdx.L2_ENTRY_INIT},
	{0x4014, 1, 0, 0, 0},                          // likewise
	{tdx.VMCS_ENTRY_INTERRUPTION, 4, all, all, 0}, // and error code, length, TPR threshold
	{tdx.VMCS_SECONDARY_CONTROLS, 1, all, tdx.L2_SECONDARY_WRITABLE, tdx.L2_SECONDARY_INIT},
	{tdx.VMCS_PLE_GAP, 2, all, all, 0}, // and window
	{0x4024, 1, all, 0, 0},             // instruction timeout
	{0x4026, 1, 0, 0, 0},               // HKID
	{0x4400, 8, all, all, 0},           // exit information
	{tdx.VMCS_GUEST_ES_LIMIT, 6, all, all, 0xFFFFFFFF},
	{tdx.VMCS_GUEST_ES_LIMIT + 12, 3, all, all, 0xFFFF}, // LDTR, TR, GDTR
	{tdx.VMCS_GUEST_IDTR_LIMIT, 1, all, all, 0},
	{tdx.VMCS_GUEST_ES_AR, 1, all, all, dataInit},
	{tdx.VMCS_GUEST_CS_AR, 1, all, all, codeInit},
	{tdx.VMCS_GUEST_SS_AR, 4, all, all, dataInit},
	{tdx.VMCS_GUEST_LDTR_AR, 1, all, all, ldtrInit},
	{tdx.VMCS_GUEST_TR_AR, 1, all, all, trInit},
	{tdx.VMCS_INTERRUPTIBILITY, 1, all, all, 0},
	{tdx.VMCS_ACTIVITY, 1, all, 0, 0},
	{0x4828, 1, 0, 0, 0}, // SMBASE
	{tdx.VMCS_SYSENTER_CS, 1, all, all, 0},
	{0x482E, 1, 0, 0, 0},                          // preemption timer
	{tdx.VMCS_CR0_MASK, 4, all, all, 0},           // CR4 mask and both shadows: as L1 set them
	{0x6008, 4, all, all, 0},                      // CR3 targets
	{tdx.VMCS_EXIT_QUALIFICATION, 6, all, all, 0}, // and I/O registers, linear address
	{tdx.VMCS_GUEST_CR0, 1, all, tdx.L2_CR0_WRITABLE, tdx.L2_CR0_INIT},
	{tdx.VMCS_GUEST_CR3, 1, all, all, 0},
	{tdx.VMCS_GUEST_CR4, 1, all, tdx.L2_CR4_WRITABLE, tdx.L2_CR4_INIT},
	{tdx.VMCS_GUEST_ES_BASE, 10, all, all, 0}, // bases to IDTR
	{tdx.VMCS_GUEST_DR7, 1, all, all, 0x400},
	{tdx.VMCS_GUEST_RSP, 1, all, all, 0},
	{tdx.VMCS_GUEST_RIP, 1, all, all, 0xFFFFFFF0},
	{tdx.VMCS_GUEST_RFLAGS, 1, all, all, 2},
	{tdx.VMCS_PENDING_DEBUG, 6, all, all, 0}, // SYSENTER, CET
	{0x6C08, 1, 0, 0, 0},                     // the module's own state
	{0x6C14, 2, 0, 0, 0},
	{0x6C1A, 1, 0, 0, 0},
}

// Start values that are not a VM's own numbers: write-back, four levels; the PAT after
// reset; segments as the module makes them.
const (
	eptpInit = 6 | 3<<3
	patInit  = 0x0007040600070406
	dataInit = 0xC093
	codeInit = 0xC09B
	ldtrInit = 0x10082
	trInit   = 0x8B
)

// vmcsFields is how many fields there are, vmcsFirst where those of a row begin.
var vmcsFirst, vmcsFields = func() (first [len(vmcsRows)]int, n int) {
	for i := range vmcsRows {
		first[i] = n
		n += int(vmcsRows[i].number)
	}
	return first, n
}()

// vmcsPlaces ties the code of a field, halved because all are even, to its row and its
// place among all fields, both plus one.
var vmcsPlaces = func() (places [vmcsCodes / tdx.VMCS_STEP]struct{ row, place uint16 }) {
	for row, r := range vmcsRows {
		for n := range r.number {
			p := &places[r.code/tdx.VMCS_STEP+n]
			p.row, p.place = uint16(row)+1, uint16(vmcsFirst[row])+uint16(n)+1
		}
	}
	return places
}()

// vmcsCodes is more than the highest code.
const vmcsCodes = 0x6C20

// findVMCS returns the row of a field and its place among all.
func findVMCS(code uint32) (row, place int, ok bool) {
	if code%tdx.VMCS_STEP != 0 || code >= vmcsCodes {
		return 0, 0, false
	}
	p := &vmcsPlaces[code/tdx.VMCS_STEP]
	return int(p.row) - 1, int(p.place) - 1, p.place != 0
}
