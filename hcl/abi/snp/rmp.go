package snp

// Permissions of a VMPL on a page (APM vol. 2 table 15-36).
const (
	RMP_R    = 1 << 0
	RMP_W    = 1 << 1
	RMP_UX   = 1 << 2 // execute at CPL 3
	RMP_SX   = 1 << 3 // execute at CPL 0 to 2
	RMP_SSS  = 1 << 4 // supervisor shadow stack
	RMP_RWX  = RMP_R | RMP_W | RMP_UX | RMP_SX
	RMP_ALL  = RMP_RWX | RMP_SSS
	RMP_BITS = 5
)

// Page sizes in the RMP, in RCX of PVALIDATE and RMPADJUST and in RMPUPDATE's
// entry (APM vol. 2 table 15-34).
const (
	RMP_PG_SIZE_4K = 0
	RMP_PG_SIZE_2M = 1
)

// Fields of RDX of RMPADJUST, and of what RMPQUERY returns there (APM vol. 3,
// "RMPADJUST", "RMPQUERY").
const (
	RMPADJUST_VMPL_MASK  = 0xFF
	RMPADJUST_PERM_SHIFT = 8 // eight bits
	RMPADJUST_VMSA       = 1 << 16
)

// Return codes in EAX (APM vol. 3). PVALIDATE returns SUCCESS, FAIL_INPUT and
// FAIL_SIZEMISMATCH; RMPADJUST also FAIL_PERMISSION; RMPUPDATE FAIL_INPUT,
// FAIL_PERMISSION, FAIL_INUSE and FAIL_OVERLAP; PSMASH FAIL_INPUT,
// FAIL_PERMISSION, FAIL_INUSE and FAIL_BADADDR. The last two numbers are as in
// Microsoft's documentation of __rmpupdate and __psmash.
const (
	RMP_SUCCESS           = 0
	RMP_FAIL_INPUT        = 1
	RMP_FAIL_PERMISSION   = 2
	RMP_FAIL_INUSE        = 3
	RMP_FAIL_OVERLAP      = 4
	RMP_FAIL_SIZEMISMATCH = 6
	RMP_FAIL_BADADDR      = 7
)

// Fields of the 16-byte entry that RMPUPDATE takes (APM vol. 3, "RMPUPDATE").
const (
	RMPUPDATE_GPA       = 0x0
	RMPUPDATE_ASSIGNED  = 0x8 // one byte
	RMPUPDATE_PAGE_SIZE = 0x9 // one byte
	RMPUPDATE_IMMUTABLE = 0xA // one byte
	RMPUPDATE_ASID      = 0xC // four bytes
	RMPUPDATE_SIZE      = 0x10
)

// Status codes of the AMD-SP's commands and messages (SNP firmware ABI, "Status
// Codes").
const (
	SP_SUCCESS             = 0x00
	SP_INVALID_GUEST_STATE = 0x02
	SP_INVALID_LEN         = 0x04
	SP_INVALID_ADDRESS     = 0x09
	SP_BAD_MEASUREMENT     = 0x0B
	SP_INVALID_PARAM       = 0x16
	SP_INVALID_PAGE_SIZE   = 0x19
	SP_INVALID_PAGE_STATE  = 0x1A
	SP_INVALID_PAGE_OWNER  = 0x1C
	SP_AEAD_OFLOW          = 0x1D
	SP_INVALID_KEY         = 0x27
)

// Page types of SNP_LAUNCH_UPDATE (SNP firmware ABI, that command).
const (
	PAGE_TYPE_NORMAL     = 1
	PAGE_TYPE_VMSA       = 2
	PAGE_TYPE_ZERO       = 3
	PAGE_TYPE_UNMEASURED = 4
	PAGE_TYPE_SECRETS    = 5
	PAGE_TYPE_CPUID      = 6
)
