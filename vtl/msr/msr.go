// Package msr holds what an isolated guest finds in the model-specific registers that no
// device and no other part of Keel answers. It is a list of what is allowed: an access
// that no row has is #GP. No value comes from the host.
//
// Specifications: AMD64 APM vol. 2 appendix A and §7.7 (MTRRs), the BKDG and PPR of
// AMD's families 10h to 17h for registers from C001_0000h; Intel SDM vol. 4 table 2-2.
package msr

import "keel/hcl/abi/x86"

// Write says what becomes of a write.
type Write uint8

// What becomes of it.
const (
	Refused Write = iota // #GP
	Ignored              // nothing, if no bit beyond Mask is set; else #GP
	Kept                 // it is read back, if no bit beyond Mask is set; else #GP
)

// Row is a range of registers.
type Row struct {
	First, Last uint32
	Write       Write
	Value       uint64 // after power-on, and for ever where writes are not kept
	Mask        uint64 // bits that a write may set
	// Types are the fields of eight bits that hold a memory type: how many, from bit 0.
	Types  int
	Reason string
}

// Bits of the memory type range registers (APM vol. 2 §7.7.2).
const (
	mtrrPairs    = 8
	mtrrMaskBits = 1<<52 - 1<<12 | 1<<11
	mtrrBaseBits = 1<<52 - 1<<12 | 0xff
	all          = ^uint64(0)

	// Bits of HWCR with which operating systems work around errata of processors, or
	// write what it holds already.
	hwcrTLBCacheDisable = 1 << 3
	hwcrFFDisable       = 1 << 6
	hwcrIgnoreIGNNE     = 1 << 8
	hwcrMCStatusWrite   = 1 << 18
	hwcrIRPerf          = 1 << 30

	deCfgZenbleed = 1 << 9
	debugLBR      = 1 << 0
	debugBTF      = 1 << 1
	umwaitTime    = (1<<32 - 1) &^ (1 << 1)
	miscFast      = 1 << 0
	mcgBits       = 1<<3 - 1

	// The revision that hypervisors show: no guest has microcode that is newer.
	microcode = 0x01000065
)

// Rows is the table, by number. Kept registers of the processor (hcl.KeptMSRs), EFER and
// XSS, the local APIC, time, and the hypervisor interface are not in it: others answer
// those.
var Rows = []Row{
	{x86.IA32_PLATFORM_ID, x86.IA32_PLATFORM_ID, Refused, 0, 0, 0, "which microcode fits: none does"},
	{x86.IA32_BIOS_SIGN_ID, x86.IA32_BIOS_SIGN_ID, Ignored, microcode << 32, all, 0, "Linux reads the revision on every start of a processor, and writes zero before"},
	{x86.IA32_UMWAIT_CTRL, x86.IA32_UMWAIT_CTRL, Kept, 0, umwaitTime, 0, "a bound for UMWAIT, where CPUID has that"},
	{x86.IA32_MTRRCAP, x86.IA32_MTRRCAP, Refused, mtrrPairs | x86.MTRRCAP_FIXED | x86.MTRRCAP_WC, 0, 0, "CPUID has MTRR"},
	{x86.IA32_ARCH_CAPS, x86.IA32_ARCH_CAPS, Refused, 0, 0, 0, "promises about this processor: none is made"},
	{x86.IA32_MCG_CAP, x86.IA32_MCG_CAP, Refused, 0, 0, 0, "CPUID has MCA: no banks, machine checks are Keel's"},
	{x86.IA32_MCG_STATUS, x86.IA32_MCG_STATUS, Kept, 0, mcgBits, 0, "CPUID has MCA"},
	{x86.IA32_MISC_ENABLE, x86.IA32_MISC_ENABLE, Ignored, miscFast, miscFast, 0, "Linux reads it on Intel's processors"},
	{x86.IA32_DEBUGCTL, x86.IA32_DEBUGCTL, Ignored, 0, debugLBR | debugBTF, 0, "debuggers ask for steps from branch to branch, and get single ones"},
	{x86.IA32_MTRR_PHYSBASE, x86.IA32_MTRR_PHYSLAST, Kept, 0, mtrrBaseBits | mtrrMaskBits, 1, "CPUID has MTRR; they change nothing, as beneath every hypervisor"},
	{x86.IA32_MTRR_FIX64K, x86.IA32_MTRR_FIX64K, Kept, 0, all, 8, "the same"},
	{x86.IA32_MTRR_FIX16K, x86.IA32_MTRR_FIX16K + 1, Kept, 0, all, 8, "the same"},
	{x86.IA32_MTRR_FIX4K, x86.IA32_MTRR_FIX4K + 7, Kept, 0, all, 8, "the same"},
	{x86.IA32_MTRR_DEF_TYPE, x86.IA32_MTRR_DEF_TYPE, Kept, x86.MTRR_DEF_TYPE_ENABLED_WB, 0xff | x86.MTRR_DEF_TYPE_FIXED | 1<<11, 1, "the same"},
	{x86.AMD_SYSCFG, x86.AMD_SYSCFG, Ignored, 0, 0, 0, "Linux looks whether the fixed MTRRs have AMD's extension; memory encryption, which is also here, is off"},
	{
		x86.AMD_HWCR, x86.AMD_HWCR, Ignored, x86.AMD_HWCR_TSC_AT_P0,
		hwcrTLBCacheDisable | hwcrFFDisable | hwcrIgnoreIGNNE | hwcrMCStatusWrite | x86.AMD_HWCR_TSC_AT_P0 | hwcrIRPerf, 0,
		"Linux wants to know that the time stamp counter is constant, and works around errata",
	},
	{x86.AMD_TOP_MEM, x86.AMD_TOP_MEM, Refused, 0, 0, 0, "Linux prints it"},
	{x86.AMD_TOP_MEM2, x86.AMD_TOP_MEM2, Refused, 0, 0, 0, "the same"},
	{x86.AMD_NB_CFG, x86.AMD_NB_CFG, Ignored, 0, all, 0, "Linux enables access to PCI's extended registers by it, on old families"},
	{x86.AMD_INT_PENDING, x86.AMD_INT_PENDING, Refused, 0, 0, 0, "an erratum of old families: not on"},
	{x86.AMD_MMIO_CFG_BASE, x86.AMD_MMIO_CFG_BASE, Refused, 0, 0, 0, "PCI's registers in memory: ACPI tells"},
	{x86.AMD_OSVW_ID_LENGTH, x86.AMD_OSVW_STATUS, Refused, 0, 0, 0, "errata that the guest must work around: no list"},
	{x86.AMD_DC_CFG, x86.AMD_DC_CFG, Ignored, 0, all, 0, "errata of old families"},
	{x86.AMD_DE_CFG, x86.AMD_DE_CFG, Ignored, x86.AMD_DE_CFG_LFENCE, x86.AMD_DE_CFG_LFENCE | deCfgZenbleed, 0, "Linux makes LFENCE wait, and finds that it does"},
}

// find returns the row of a register, or nil, and where a Bank keeps the register.
func find(index uint32) (r *Row, slot int) {
	for i := range Rows {
		r := &Rows[i]
		if index >= r.First && index <= r.Last {
			return r, slot + int(index-r.First)
		}
		if r.Write == Kept {
			slot += int(r.Last-r.First) + 1
		}
	}
	return nil, 0
}

// valid tells whether a write is one that the register takes.
func (r *Row) valid(v uint64) bool {
	if r.Write == Refused || v&^r.Mask != 0 {
		return false
	}
	for i := range r.Types {
		switch v >> (8 * i) & 0xff { // UC, WC, WT, WP, WB (APM vol. 2 table 7-5)
		case 0, 1, 4, 5, 6:
		default:
			return false
		}
	}
	return true
}

// keptRegisters is how many registers of the table are kept.
const keptRegisters = 30

// Bank is the registers of one VP. The zero value is that of power-on.
type Bank struct {
	kept [keptRegisters]uint64 // how each differs from its value after power-on
}

// Read returns what RDMSR reads; ok is false for #GP.
func (b *Bank) Read(index uint32) (value uint64, ok bool) {
	r, slot := find(index)
	switch {
	case r == nil:
		return 0, false
	case r.Write == Kept:
		return r.Value ^ b.kept[slot], true
	}
	return r.Value, true
}

// Write is WRMSR; ok is false for #GP.
func (b *Bank) Write(index uint32, value uint64) (ok bool) {
	r, slot := find(index)
	if r == nil || !r.valid(value) {
		return false
	}
	if r.Write == Kept {
		b.kept[slot] = r.Value ^ value
	}
	return true
}

// Reset puts all back to power-on.
func (b *Bank) Reset() { *b = Bank{} }
