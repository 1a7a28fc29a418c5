package x86

// Model-specific registers that Keel sets, answers or leaves to the processor, beside
// those of the local APIC (Intel SDM vol. 4 table 2-2; AMD64 APM vol. 2 appendix A).
const (
	IA32_TSC           = 0x10
	IA32_PLATFORM_ID   = 0x17
	IA32_TSC_ADJUST    = 0x3b
	IA32_SPEC_CTRL     = 0x48
	IA32_PRED_CMD      = 0x49
	IA32_BIOS_SIGN_ID  = 0x8b
	IA32_UMWAIT_CTRL   = 0xe1
	IA32_MTRRCAP       = 0xfe
	IA32_ARCH_CAPS     = 0x10a
	IA32_FLUSH_CMD     = 0x10b
	IA32_SYSENTER_CS   = 0x174
	IA32_SYSENTER_ESP  = 0x175
	IA32_SYSENTER_EIP  = 0x176
	IA32_MCG_CAP       = 0x179
	IA32_MCG_STATUS    = 0x17a
	IA32_MISC_ENABLE   = 0x1a0
	IA32_DEBUGCTL      = 0x1d9
	IA32_MTRR_PHYSBASE = 0x200 // eight pairs of base and mask
	IA32_MTRR_PHYSLAST = 0x20f
	IA32_MTRR_FIX64K   = 0x250
	IA32_MTRR_FIX16K   = 0x258 // and the next
	IA32_MTRR_FIX4K    = 0x268 // and the next seven
	IA32_PAT           = 0x277
	IA32_MTRR_DEF_TYPE = 0x2ff

	IA32_U_CET               = 0x6a0
	IA32_INTERRUPT_SSP_TABLE = 0x6a8
	IA32_XSS                 = 0xda0

	IA32_EFER           = 0xc0000080
	IA32_STAR           = 0xc0000081
	IA32_LSTAR          = 0xc0000082
	IA32_CSTAR          = 0xc0000083
	IA32_FMASK          = 0xc0000084
	IA32_FS_BASE        = 0xc0000100
	IA32_GS_BASE        = 0xc0000101
	IA32_KERNEL_GS_BASE = 0xc0000102
	IA32_TSC_AUX        = 0xc0000103

	AMD_SYSCFG          = 0xc0010010
	AMD_HWCR            = 0xc0010015
	AMD_TOP_MEM         = 0xc001001a
	AMD_TOP_MEM2        = 0xc001001d
	AMD_NB_CFG          = 0xc001001f
	AMD_INT_PENDING     = 0xc0010055
	AMD_MMIO_CFG_BASE   = 0xc0010058
	AMD_VIRT_SPEC_CTRL  = 0xc001011f
	AMD_OSVW_ID_LENGTH  = 0xc0010140
	AMD_OSVW_STATUS     = 0xc0010141
	AMD_DC_CFG          = 0xc0011022
	AMD_DE_CFG          = 0xc0011029
	AMD_HWCR_TSC_AT_P0  = 1 << 24
	AMD_DE_CFG_LFENCE   = 1 << 1 // LFENCE waits for what is before it
	MTRRCAP_FIXED       = 1 << 8
	MTRRCAP_WC          = 1 << 10
	MTRR_DEF_TYPE_FIXED = 1 << 10

	// MTRR_DEF_TYPE_ENABLED_WB enables MTRRs with write-back as the type of
	// all memory (Intel SDM vol. 3 §12.11.2.1).
	MTRR_DEF_TYPE_ENABLED_WB = 1<<11 | 6
)
