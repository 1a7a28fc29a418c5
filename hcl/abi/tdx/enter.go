package tdx

// Input of TDG.VP.ENTER in RCX (ABI, "TDG.VP.ENTER Leaf"). RDX is the address of an
// L2_ENTER_GUEST_STATE.
const (
	VM_FLAGS_INVALIDATE_MASK = 3
	VM_FLAGS_VM_SHIFT        = 52 // two bits
	VM_FLAGS_VM_MASK         = 3
	VM_FLAGS_RESERVED_MASK   = 0x3FFFFFFFFFFFF<<2 | 0x3FF<<54

	INVALIDATE_NONE       = 0
	INVALIDATE_INVEPT     = 1 // all translations of the VM
	INVALIDATE_INVVPID    = 2 // all but the EPT's
	INVALIDATE_NON_GLOBAL = 3 // likewise, and global ones stay
)

// Byte offsets in L2_ENTER_GUEST_STATE (ABI, "L2_ENTER_GUEST_STATE"). The general
// purpose registers come in the order of their numbers.
const (
	L2_STATE_RAX              = 0x00
	L2_STATE_RCX              = 0x08
	L2_STATE_RDX              = 0x10
	L2_STATE_RBX              = 0x18
	L2_STATE_RSP              = 0x20
	L2_STATE_RBP              = 0x28
	L2_STATE_RSI              = 0x30
	L2_STATE_RDI              = 0x38
	L2_STATE_R8               = 0x40
	L2_STATE_R9               = 0x48
	L2_STATE_R10              = 0x50
	L2_STATE_R11              = 0x58
	L2_STATE_R12              = 0x60
	L2_STATE_R13              = 0x68
	L2_STATE_R14              = 0x70
	L2_STATE_R15              = 0x78
	L2_STATE_RFLAGS           = 0x80
	L2_STATE_RIP              = 0x88
	L2_STATE_SSP              = 0x90
	L2_STATE_INTERRUPT_STATUS = 0x98 // RVI, then SVI, a byte each
	L2_STATE_SIZE             = 0x9A
	L2_STATE_ALIGN            = 0x100
)

// Output of TDG.VP.ENTER when L2 was left (ABI, "TDG.VP.ENTER Leaf"): RAX has the
// status and, in its details, the VMX exit reason; RCX the exit qualification; RDX the
// guest-linear and R8 the guest-physical address; RDI the base of CS. RBX, R14 and R15
// are 0.
const (
	ENTER_RSI_CS_SELECTOR_SHIFT = 0  // sixteen bits
	ENTER_RSI_CS_AR_SHIFT       = 16 // sixteen bits
	ENTER_RSI_CS_LIMIT_SHIFT    = 32 // 32 bits
	ENTER_R9_ERROR_SHIFT        = 32 // error code; beneath it the interruption information
	ENTER_R10_ERROR_SHIFT       = 32 // error code; beneath it the IDT-vectoring information
	ENTER_R11_LENGTH_SHIFT      = 32 // instruction length; beneath it the instruction information
	ENTER_R12_CPL_MASK          = 3
	ENTER_R13_TYPE_MASK         = 0xF // EEQ_NONE or EEQ_PENDING_EPT_VIOLATION
)
