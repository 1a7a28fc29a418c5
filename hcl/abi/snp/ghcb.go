package snp

// The GHCB MSR protocol: bits 11:0 say which request or response bits 63:12
// carry (GHCB §2.3.1).
const (
	GHCB_INFO_MASK  = 0xFFF
	GHCB_DATA_SHIFT = 12

	GHCB_GPA                = 0x000 // bits 63:12 are the GHCB's address
	GHCB_SEV_INFO_RESP      = 0x001
	GHCB_SEV_INFO_REQ       = 0x002
	GHCB_CPUID_REQ          = 0x004
	GHCB_CPUID_RESP         = 0x005
	GHCB_AP_RESET_HOLD_REQ  = 0x006
	GHCB_AP_RESET_HOLD_RESP = 0x007
	GHCB_PREF_GPA_REQ       = 0x010
	GHCB_PREF_GPA_RESP      = 0x011
	GHCB_REG_GPA_REQ        = 0x012
	GHCB_REG_GPA_RESP       = 0x013
	GHCB_PSC_REQ            = 0x014
	GHCB_PSC_RESP           = 0x015
	GHCB_RUN_VMPL_REQ       = 0x016
	GHCB_RUN_VMPL_RESP      = 0x017
	GHCB_HV_FEATURES_REQ    = 0x080
	GHCB_HV_FEATURES_RESP   = 0x081
	GHCB_TERMINATE_REQ      = 0x100
)

// Fields of those requests (GHCB §2.3.1 and §2.3.2).
const (
	GHCB_SEV_INFO_MAX_SHIFT  = 48 // 16 bits: highest protocol version
	GHCB_SEV_INFO_MIN_SHIFT  = 32 // 16 bits
	GHCB_SEV_INFO_CBIT_SHIFT = 24 // eight bits
	GHCB_CPUID_FUNC_SHIFT    = 32 // 32 bits: the leaf; in the response the value
	GHCB_CPUID_REG_SHIFT     = 30 // two bits: EAX, EBX, ECX, EDX
	GHCB_PREF_GPA_NONE       = 1<<52 - 1
	GHCB_PSC_OP_SHIFT        = 52 // four bits
	GHCB_PSC_GFN_MASK        = 1<<40 - 1
	GHCB_PSC_ERROR_SHIFT     = 32 // 32 bits of the response; zero is success
	GHCB_RUN_VMPL_SHIFT      = 32 // eight bits; in the response 32 bits of error
	GHCB_TERM_SET_SHIFT      = 12 // four bits
	GHCB_TERM_REASON_SHIFT   = 16 // eight bits

	GHCB_HV_FT_SNP                  = 1 << 0
	GHCB_HV_FT_SNP_AP_CREATION      = 1 << 1
	GHCB_HV_FT_SNP_RESTRICTED_INJ   = 1 << 2
	GHCB_HV_FT_SNP_RESTRICTED_TIMER = 1 << 3
	GHCB_HV_FT_APIC_ID_LIST         = 1 << 4
	GHCB_HV_FT_SNP_MULTI_VMPL       = 1 << 5
)

// Termination reasons of set 0 (GHCB §2.3.1).
const (
	GHCB_TERM_GENERAL           = 0
	GHCB_TERM_PROTOCOL_RANGE    = 1
	GHCB_TERM_SNP_NOT_SUPPORTED = 2
)

// Page state changes (GHCB §2.3.1 and "SNP Page State Change"): the operations, and the structure
// of the page state change event, a header and up to PSC_MAX_ENTRIES entries.
const (
	PSC_OP_PRIVATE = 1
	PSC_OP_SHARED  = 2
	PSC_OP_PSMASH  = 3
	PSC_OP_UNSMASH = 4

	PSC_CUR_ENTRY   = 0x0 // two bytes
	PSC_END_ENTRY   = 0x2 // two bytes
	PSC_ENTRIES     = 0x8
	PSC_ENTRY_SIZE  = 8
	PSC_MAX_ENTRIES = 253

	PSC_CUR_PAGE_MASK = 0xFFF // bits 11:0 of an entry
	PSC_GFN_SHIFT     = 12    // 40 bits
	PSC_GFN_MASK      = 1<<40 - 1
	PSC_OP_SHIFT      = 52 // four bits
	PSC_OP_MASK       = 0xF
	PSC_SIZE_2M       = 1 << 56

	PSC_ERROR_GENERIC       = 0x100 << 32
	PSC_ERROR_INVALID_HDR   = 1<<32 | 1
	PSC_ERROR_INVALID_ENTRY = 1<<32 | 2
)

// Events of VMGEXIT that have no exit code of their own in SVM (GHCB §4.1).
const (
	VMGEXIT_MMIO_READ         = 0x80000001
	VMGEXIT_MMIO_WRITE        = 0x80000002
	VMGEXIT_NMI_COMPLETE      = 0x80000003
	VMGEXIT_AP_RESET_HOLD     = 0x80000004
	VMGEXIT_AP_JUMP_TABLE     = 0x80000005
	VMGEXIT_PSC               = 0x80000010
	VMGEXIT_GUEST_REQUEST     = 0x80000011
	VMGEXIT_EXT_GUEST_REQUEST = 0x80000012
	VMGEXIT_AP_CREATION       = 0x80000013
	VMGEXIT_HV_DOORBELL       = 0x80000014
	VMGEXIT_HV_IPI            = 0x80000015
	VMGEXIT_HV_TIMER          = 0x80000016
	VMGEXIT_APIC_ID_LIST      = 0x80000017
	VMGEXIT_RUN_VMPL          = 0x80000018
	VMGEXIT_SAVIC             = 0x8000001A
	VMGEXIT_HV_FEATURES       = 0x8000FFFD
	VMGEXIT_TERMINATE         = 0x8000FFFE
	VMGEXIT_UNSUPPORTED       = 0x8000FFFF

	// SW_EXITINFO1 of VMGEXIT_AP_CREATION: the operation, the VMPL in bits
	// 19:16, the APIC ID in bits 63:32.
	AP_CREATE_ON_INIT   = 0
	AP_CREATE           = 1
	AP_DESTROY          = 2
	AP_VMPL_SHIFT       = 16
	AP_APIC_ID_SHIFT    = 32
	AP_VMPL_MASK        = 0xF
	AP_OPERATION_MASK   = 0xFFFF
	AP_APIC_ID_MASK     = 0xFFFFFFFF
	DOORBELL_GET_PREF   = 0
	DOORBELL_SET        = 1
	DOORBELL_QUERY      = 2
	DOORBELL_CLEAR      = 3
	DOORBELL_PREF_NONE  = 1<<64 - 1
	DOORBELL_VECTOR     = VECTOR_HV
	GUEST_REQUEST_PAGES = 1 // pages of request and of response
)

// Byte offsets in the GHCB (GHCB §2.6, table "GHCB Layout").
const (
	GHCB_CPL              = 0x0CB // one byte
	GHCB_XSS              = 0x140
	GHCB_DR7              = 0x160
	GHCB_RIP              = 0x178
	GHCB_RSP              = 0x1D8
	GHCB_RAX              = 0x1F8
	GHCB_RCX              = 0x308
	GHCB_RDX              = 0x310
	GHCB_RBX              = 0x318
	GHCB_RBP              = 0x328
	GHCB_RSI              = 0x330
	GHCB_RDI              = 0x338
	GHCB_R8               = 0x340
	GHCB_R9               = 0x348
	GHCB_R10              = 0x350
	GHCB_R11              = 0x358
	GHCB_R12              = 0x360
	GHCB_R13              = 0x368
	GHCB_R14              = 0x370
	GHCB_R15              = 0x378
	GHCB_SW_EXITCODE      = 0x390
	GHCB_SW_EXITINFO1     = 0x398
	GHCB_SW_EXITINFO2     = 0x3A0
	GHCB_SW_SCRATCH       = 0x3A8
	GHCB_XCR0             = 0x3E8
	GHCB_VALID_BITMAP     = 0x3F0 // 16 bytes: bit n is the field at byte 8n
	GHCB_X87_STATE_GPA    = 0x400
	GHCB_SHARED_BUFFER    = 0x800
	GHCB_SHARED_SIZE      = 0x7F0
	GHCB_PROTOCOL_VERSION = 0xFFA // two bytes
	GHCB_USAGE            = 0xFFC // four bytes; zero is the layout above
	GHCB_SIZE             = 0x1000
)

// What the host answers in SW_EXITINFO1 bits 31:0 and, for malformed input, in
// SW_EXITINFO2 (GHCB §4.1).
const (
	GHCB_RESP_OK        = 0
	GHCB_RESP_EXCEPTION = 1
	GHCB_RESP_MALFORMED = 2

	GHCB_ERR_NOT_REGISTERED = 1
	GHCB_ERR_INVALID_USAGE  = 2
	GHCB_ERR_SCRATCH_AREA   = 3
	GHCB_ERR_MISSING_INPUT  = 4
	GHCB_ERR_INVALID_INPUT  = 5
	GHCB_ERR_INVALID_EVENT  = 6
)
