package x86

// Interrupt controllers as the rest of the machine sees them: MSR indices
// (SDM vol. 4, table "IA-32 Architectural MSRs") and the addresses at which
// firmware and operating systems expect them.
const (
	IA32_APIC_BASE    = 0x1B
	IA32_TSC_DEADLINE = 0x6E0

	// X2APIC_MSR_FIRST and X2APIC_MSR_LAST bound the MSRs of the x2APIC.
	X2APIC_MSR_FIRST = 0x800
	X2APIC_MSR_LAST  = 0x8FF

	// APIC_DEFAULT_BASE is the power-on address of the xAPIC page and the
	// start of the MSI window.
	APIC_DEFAULT_BASE = 0xFEE00000
)
