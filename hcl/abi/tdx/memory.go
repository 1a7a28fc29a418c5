package tdx

// Levels of the secure EPT (ABI, "Physical Memory Management Types", SEPT levels).
const (
	LEVEL_4K = 0
	LEVEL_2M = 1
	LEVEL_1G = 2
	LEVELS   = 3 // at which pages can be
)

// Page and level in RCX of TDG.MEM.PAGE.ACCEPT and TDG.MEM.PAGE.ATTR.WR, and of what
// TDG.MEM.PAGE.ATTR.RD and .WR return there (ABI, "GPA_MAPPING", "EPT_INFO"). The
// address is in bits 51:12, GPA_PAGE_MASK.
const (
	PAGE_LEVEL_MASK    = 7
	PAGE_RESERVED_MASK = 0x1FF<<3 | 0xFFF<<52
	PAGE_PENDING       = 1 << 62 // output: the page waits for TDG.MEM.PAGE.ACCEPT
)

// Attributes of a page for one VM, sixteen bits (ABI, "GPA_ATTR_SINGLE_VM").
const (
	GPA_ATTR_R        = 1 << 0
	GPA_ATTR_W        = 1 << 1
	GPA_ATTR_XS       = 1 << 2 // execute at supervisor addresses, or at all
	GPA_ATTR_XU       = 1 << 3 // execute at user addresses
	GPA_ATTR_VGP      = 1 << 4 // verify guest paging
	GPA_ATTR_PWA      = 1 << 5 // paging-write access
	GPA_ATTR_SSS      = 1 << 6 // supervisor shadow stack
	GPA_ATTR_SVE      = 1 << 7 // suppress #VE; must be 0
	GPA_ATTR_RESERVED = 0x7F << 8
	GPA_ATTR_VALID    = 1 << 15
	GPA_ATTR_PRESENT  = GPA_ATTR_R | GPA_ATTR_W | GPA_ATTR_XS | GPA_ATTR_XU // any makes the page present
	GPA_ATTR_RWX      = GPA_ATTR_PRESENT
	GPA_ATTR_BITS     = 16 // of each VM in GPA_ATTR: L1 lowest, then L2 VMs 1 to 3

	// GPA_ATTR_INVEPT is in the mask of TDG.MEM.PAGE.ATTR.WR (ABI, "ATTR_FLAGS"), where
	// the attributes have VALID: it flushes the VM's translations.
	GPA_ATTR_INVEPT = 1 << 15
)

// States of a secure EPT entry, as the host sees them (ABI, "SEPT Entry Details and
// Flags"). Those of migration are missing.
const (
	SEPT_FREE            = 0
	SEPT_BLOCKED         = 1
	SEPT_PENDING         = 2
	SEPT_PENDING_BLOCKED = 3
	SEPT_MAPPED          = 4
	SEPT_NL_BLOCKED      = 129 // not a leaf
	SEPT_NL_MAPPED       = 132
)

// Extended exit qualification (ABI, "Extended Exit Qualification"): why an EPT violation
// went to the host, and in R13 of TDG.VP.ENTER why one came to L1.
const (
	EEQ_NONE                  = 0
	EEQ_ACCEPT                = 1 // TDG.MEM.PAGE.ACCEPT
	EEQ_GPA_DETAILS           = 2
	EEQ_ATTR_WR               = 5 // TDG.MEM.PAGE.ATTR.WR
	EEQ_PENDING_EPT_VIOLATION = 6 // the page waits for TDG.MEM.PAGE.ACCEPT
	EEQ_TYPE_MASK             = 0xF
	EEQ_INFO_SHIFT            = 32

	// The information of EEQ_ACCEPT and EEQ_ATTR_WR.
	EEQ_REQUESTED_LEVEL_SHIFT = 0 // three bits
	EEQ_ERROR_LEVEL_SHIFT     = 3 // three bits: where the walk ended
	EEQ_ERROR_STATE_SHIFT     = 6 // eight bits: SEPT_FREE and so on
	EEQ_ERROR_LEAF            = 1 << 14
	EEQ_VM_SHIFT              = 20 // two bits
)
