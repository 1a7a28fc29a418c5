package snp

// VMSA_SIZE is the size of a save area: one page.
const VMSA_SIZE = 0x1000

// Byte offsets in the VMSA (APM vol. 2 appendix B, table B-4, "VMSA Layout,
// State Save Area for SEV-ES").
const (
	VMSA_ES   = 0x000
	VMSA_CS   = 0x010
	VMSA_SS   = 0x020
	VMSA_DS   = 0x030
	VMSA_FS   = 0x040
	VMSA_GS   = 0x050
	VMSA_GDTR = 0x060
	VMSA_LDTR = 0x070
	VMSA_IDTR = 0x080
	VMSA_TR   = 0x090

	VMSA_PL0_SSP = 0x0A0
	VMSA_PL1_SSP = 0x0A8
	VMSA_PL2_SSP = 0x0B0
	VMSA_PL3_SSP = 0x0B8
	VMSA_U_CET   = 0x0C0
	VMSA_VMPL    = 0x0CA // one byte
	VMSA_CPL     = 0x0CB // one byte
	VMSA_EFER    = 0x0D0
	VMSA_XSS     = 0x140
	VMSA_CR4     = 0x148
	VMSA_CR3     = 0x150
	VMSA_CR0     = 0x158
	VMSA_DR7     = 0x160
	VMSA_DR6     = 0x168
	VMSA_RFLAGS  = 0x170
	VMSA_RIP     = 0x178
	VMSA_DR0     = 0x180
	VMSA_DR1     = 0x188
	VMSA_DR2     = 0x190
	VMSA_DR3     = 0x198

	VMSA_DR0_ADDR_MASK = 0x1A0
	VMSA_DR1_ADDR_MASK = 0x1A8
	VMSA_DR2_ADDR_MASK = 0x1B0
	VMSA_DR3_ADDR_MASK = 0x1B8

	VMSA_RSP            = 0x1D8
	VMSA_S_CET          = 0x1E0
	VMSA_SSP            = 0x1E8
	VMSA_ISST_ADDR      = 0x1F0
	VMSA_RAX            = 0x1F8
	VMSA_STAR           = 0x200
	VMSA_LSTAR          = 0x208
	VMSA_CSTAR          = 0x210
	VMSA_SFMASK         = 0x218
	VMSA_KERNEL_GS_BASE = 0x220
	VMSA_SYSENTER_CS    = 0x228
	VMSA_SYSENTER_ESP   = 0x230
	VMSA_SYSENTER_EIP   = 0x238
	VMSA_CR2            = 0x240
	VMSA_G_PAT          = 0x268
	VMSA_DBGCTL         = 0x270
	VMSA_BR_FROM        = 0x278
	VMSA_BR_TO          = 0x280
	VMSA_LAST_EXCP_FROM = 0x288
	VMSA_LAST_EXCP_TO   = 0x290
	VMSA_SPEC_CTRL      = 0x2E0
	VMSA_PKRU           = 0x2E8 // four bytes
	VMSA_TSC_AUX        = 0x2EC // four bytes

	VMSA_GUEST_TSC_SCALE  = 0x2F0
	VMSA_GUEST_TSC_OFFSET = 0x2F8
	VMSA_REG_PROT_NONCE   = 0x300

	VMSA_RCX                 = 0x308
	VMSA_RDX                 = 0x310
	VMSA_RBX                 = 0x318
	VMSA_SECURE_AVIC_CONTROL = 0x320
	VMSA_RBP                 = 0x328
	VMSA_RSI                 = 0x330
	VMSA_RDI                 = 0x338
	VMSA_R8                  = 0x340
	VMSA_R9                  = 0x348
	VMSA_R10                 = 0x350
	VMSA_R11                 = 0x358
	VMSA_R12                 = 0x360
	VMSA_R13                 = 0x368
	VMSA_R14                 = 0x370
	VMSA_R15                 = 0x378

	VMSA_GUEST_EXITINFO1   = 0x390
	VMSA_GUEST_EXITINFO2   = 0x398
	VMSA_GUEST_EXITINTINFO = 0x3A0
	VMSA_GUEST_NRIP        = 0x3A8
	VMSA_SEV_FEATURES      = 0x3B0
	VMSA_VINTR_CTRL        = 0x3B8
	VMSA_GUEST_EXIT_CODE   = 0x3C0
	VMSA_VIRTUAL_TOM       = 0x3C8
	VMSA_TLB_ID            = 0x3D0
	VMSA_PCPU_ID           = 0x3D8
	VMSA_EVENTINJ          = 0x3E0
	VMSA_XCR0              = 0x3E8

	VMSA_X87_DP  = 0x400
	VMSA_MXCSR   = 0x408 // four bytes
	VMSA_X87_FTW = 0x40C // two bytes, as the next five
	VMSA_X87_FSW = 0x40E
	VMSA_X87_FCW = 0x410
	VMSA_X87_FOP = 0x412
	VMSA_X87_DS  = 0x414
	VMSA_X87_CS  = 0x416
	VMSA_X87_RIP = 0x418
	VMSA_X87     = 0x420 // eight registers of ten bytes
	VMSA_XMM     = 0x470 // sixteen of 16 bytes
	VMSA_YMM_HI  = 0x570 // upper halves, sixteen of 16 bytes
	VMSA_FPU_END = 0x670

	// Guest intercept control (§15.36.23): eight vectors of four bytes, laid
	// out as those of the VMCB, and four of eight bytes for MSRs.
	VMSA_GUEST_INTERCEPTS     = 0x900
	VMSA_GUEST_MSR_INTERCEPTS = 0x920
)

// Parts of a segment register in the VMSA, 16 bytes in all (APM vol. 2 table
// B-2).
const (
	SEG_SELECTOR   = 0 // two bytes
	SEG_ATTRIBUTES = 2 // two bytes
	SEG_LIMIT      = 4 // four bytes, already scaled by granularity
	SEG_BASE       = 8
	SEG_SIZE       = 16
)

// Segment attributes: bits 55:52 and 47:40 of the descriptor, put together into
// twelve bits (APM vol. 2 §15.5.1).
const (
	SEG_ATTR_TYPE_MASK   = 0xF
	SEG_ATTR_S           = 1 << 4
	SEG_ATTR_DPL_SHIFT   = 5
	SEG_ATTR_P           = 1 << 7
	SEG_ATTR_AVL         = 1 << 8
	SEG_ATTR_L           = 1 << 9
	SEG_ATTR_DB          = 1 << 10
	SEG_ATTR_G           = 1 << 11
	SEG_ATTR_LOW_MASK    = 0x0FF
	SEG_ATTR_HIGH_MASK   = 0xF00
	SEG_ATTR_HIGH_TO_VMX = 4 // the upper four bits lie that much higher in VMX's format
)
