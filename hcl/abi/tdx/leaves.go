package tdx

// Leaf functions of TDCALL, in RAX bits 15:0 (ABI, "Guest-Side (TDCALL) Interface
// Functions"). Bits 23:16 are the version, which must be 0 but for TDG.VM.RD.
const (
	TDG_VP_VMCALL         = 0
	TDG_VP_INFO           = 1
	TDG_MR_RTMR_EXTEND    = 2
	TDG_VP_VEINFO_GET     = 3
	TDG_MR_REPORT         = 4
	TDG_VP_CPUIDVE_SET    = 5
	TDG_MEM_PAGE_ACCEPT   = 6
	TDG_VM_RD             = 7
	TDG_VM_WR             = 8
	TDG_VP_RD             = 9
	TDG_VP_WR             = 10
	TDG_SYS_RD            = 11
	TDG_SYS_RDALL         = 12
	TDG_SERVTD_RD         = 18
	TDG_SERVTD_WR         = 20
	TDG_MR_VERIFYREPORT   = 22
	TDG_MEM_PAGE_ATTR_RD  = 23
	TDG_MEM_PAGE_ATTR_WR  = 24
	TDG_VP_ENTER          = 25
	TDG_VP_INVEPT         = 26
	TDG_VP_INVGLA         = 27 // TDG.VP.INVVPID in the first editions
	TDG_MR_KEY_GET        = 29 // of later modules, as is the next
	TDG_MEM_PAGE_RELEASE  = 30
	TDG_LEAF_MASK         = 0xFFFF
	TDG_VERSION_SHIFT     = 16
	TDG_VERSION_MASK      = 0xFF
	TDG_RESERVED_RAX_MASK = 0xFFFFFFFFFF000000
)

// Operands of TDG.VP.INVGLA: RCX names the VM like VM_FLAGS, with bit 0 for a list;
// RDX is one entry, or says where the list lies (ABI, "GLA_LIST").
const (
	GLA_LIST               = 1 << 0
	GLA_ENTRY_LAST_MASK    = 0xFFF // how many pages follow the first
	GLA_LIST_FIRST_MASK    = 0x1FF
	GLA_LIST_RESERVED_MASK = 7<<9 | 3<<62
	GLA_LIST_NUMBER_SHIFT  = 52
	GLA_LIST_NUMBER_MASK   = 0x3FF // ten bits
	GLA_LIST_MAX_ENTRIES   = 512
	GLA_LIST_ENTRY_SIZE    = 8
	VP_INFO_R10_SYS_RD     = 1 << 0 // TDG.SYS.RD can be called
	VP_INFO_R8_MAX_SHIFT   = 32     // MAX_VCPUS; beneath it NUM_VCPUS
	VE_INFO_R10_INFO_SHIFT = 32     // instruction information; beneath it the length
)
