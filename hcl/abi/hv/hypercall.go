package hv

// Fields of the hypercall input value (TLFS "Hypercall Inputs").
const (
	HYPERCALL_CODE           = 0xFFFF
	HYPERCALL_FAST           = 1 << 16
	HYPERCALL_VARIABLE_SHIFT = 17
	HYPERCALL_VARIABLE       = 0x3FF // size of the variable header in 8 bytes
	HYPERCALL_NESTED         = 1 << 31
	HYPERCALL_REP_SHIFT      = 32
	HYPERCALL_REP            = 0xFFF
	HYPERCALL_START_SHIFT    = 48
	HYPERCALL_RESERVED       = 0xF000F000_78000000
)

// HYPERCALL_RESULT_REP_SHIFT is where the result value counts completed reps; its
// low 16 bits are the status.
const HYPERCALL_RESULT_REP_SHIFT = 32

// Hypercall codes.
const (
	HvCallFlushVirtualAddressSpace   = 0x0002
	HvCallFlushVirtualAddressList    = 0x0003
	HvCallNotifyLongSpinWait         = 0x0008
	HvCallSendSyntheticClusterIpi    = 0x000B
	HvCallFlushVirtualAddressSpaceEx = 0x0013
	HvCallFlushVirtualAddressListEx  = 0x0014
	HvCallSendSyntheticClusterIpiEx  = 0x0015
	HvCallPostMessage                = 0x005C
	HvCallSignalEvent                = 0x005D
	HvExtCallQueryCapabilities       = 0x8001
)

// Status codes (HV_STATUS).
const (
	HV_STATUS_SUCCESS                 = 0x0000
	HV_STATUS_INVALID_HYPERCALL_CODE  = 0x0002
	HV_STATUS_INVALID_HYPERCALL_INPUT = 0x0003
	HV_STATUS_INVALID_ALIGNMENT       = 0x0004
	HV_STATUS_INVALID_PARAMETER       = 0x0005
	HV_STATUS_ACCESS_DENIED           = 0x0006
	HV_STATUS_OPERATION_DENIED        = 0x0008
	HV_STATUS_INSUFFICIENT_MEMORY     = 0x000B
	HV_STATUS_INVALID_VP_INDEX        = 0x000E
	HV_STATUS_INVALID_PORT_ID         = 0x0011
	HV_STATUS_INVALID_CONNECTION_ID   = 0x0012
	HV_STATUS_INSUFFICIENT_BUFFERS    = 0x0013
	HV_STATUS_INVALID_SYNIC_STATE     = 0x0018
)

// Flags of the TLB flush hypercalls.
const (
	HV_FLUSH_ALL_PROCESSORS             = 1 << 0
	HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES = 1 << 1
	HV_FLUSH_NON_GLOBAL_MAPPINGS_ONLY   = 1 << 2
)

// Formats of a set of VPs (TLFS HV_VP_SET).
const (
	HV_GENERIC_SET_SPARSE_4K = 0
	HV_GENERIC_SET_ALL       = 1
)

// Input of HvCallFlushVirtualAddressSpace and ...List, byte offsets; the Ex calls
// have a set of VPs in place of the mask.
const (
	FLUSH_ADDRESS_SPACE = 0
	FLUSH_FLAGS         = 8
	FLUSH_MASK          = 16
	FLUSH_SIZE          = 24
	FLUSH_EX_SIZE       = 32
	FLUSH_RANGE_SIZE    = 8 // of each element of the list
)

// Input of HvCallSendSyntheticClusterIpi, byte offsets; the Ex call has a set of
// VPs in place of the mask.
const (
	IPI_VECTOR     = 0 // uint32
	IPI_TARGET_VTL = 4 // uint8
	IPI_MASK       = 8
	IPI_SIZE       = 16
	IPI_EX_SIZE    = 24
)

// Fixed part of a set of VPs, byte offsets; a uint64 for each valid bank follows.
const (
	VP_SET_FORMAT = 0
	VP_SET_BANKS  = 8
	VP_SET_SIZE   = 16
)

// Input of HvCallPostMessage, byte offsets.
const (
	POST_CONNECTION = 0  // uint32
	POST_TYPE       = 8  // uint32
	POST_LENGTH     = 12 // uint32
	POST_PAYLOAD    = 16
	POST_SIZE       = POST_PAYLOAD + HV_MESSAGE_PAYLOAD_BYTE_COUNT
)

// Input of HvCallSignalEvent, byte offsets.
const (
	SIGNAL_CONNECTION = 0 // uint32
	SIGNAL_FLAG       = 4 // uint16
	SIGNAL_RESERVED   = 6 // uint16
	SIGNAL_SIZE       = 8
)

// SPIN_SIZE is the size of the input of HvCallNotifyLongSpinWait.
const SPIN_SIZE = 8

// CONNECTION_ID_RESERVED are the bits of a connection ID that are zero (TLFS
// HV_CONNECTION_ID).
const CONNECTION_ID_RESERVED = 0xFF000000
