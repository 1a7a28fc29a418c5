package x86

// Model-specific registers that Keel sets or answers beside those of the local
// APIC (Intel SDM vol. 4 table 2-2).
const (
	IA32_TSC           = 0x10
	IA32_TSC_ADJUST    = 0x3b
	IA32_MTRR_DEF_TYPE = 0x2ff

	// MTRR_DEF_TYPE_ENABLED_WB enables MTRRs with write-back as the type of
	// all memory (Intel SDM vol. 3 §12.11.2.1).
	MTRR_DEF_TYPE_ENABLED_WB = 1<<11 | 6
)
