package hv

// SINT_COUNT is the number of synthetic interrupt sources of a VP, STIMER_COUNT
// that of its synthetic timers.
const (
	SINT_COUNT   = 16
	STIMER_COUNT = 4
)

// Sizes of a message and of what it carries, in bytes (TLFS HV_MESSAGE). The SIM
// page has one message for each source.
const (
	HV_MESSAGE_SIZE               = 256
	HV_MESSAGE_PAYLOAD_BYTE_COUNT = 240
)

// Layout of a message, byte offsets.
const (
	MESSAGE_TYPE         = 0 // uint32; HvMessageTypeNone frees the slot
	MESSAGE_PAYLOAD_SIZE = 4 // uint8
	MESSAGE_FLAGS        = 5 // uint8
	MESSAGE_ORIGINATION  = 8 // uint64
	MESSAGE_PAYLOAD      = 16

	// MESSAGE_FLAG_PENDING says that another message waits for the slot.
	MESSAGE_FLAG_PENDING = 1 << 0
)

// Message types. Those with the highest bit belong to the hypervisor.
const (
	HvMessageTypeNone     = 0
	HvMessageTimerExpired = 0x80000010

	HV_MESSAGE_TYPE_HYPERVISOR_MASK = 0x80000000
)

// Payload of HvMessageTimerExpired (TLFS HV_TIMER_MESSAGE_PAYLOAD), byte offsets.
const (
	TIMER_MESSAGE_INDEX      = 0  // uint32
	TIMER_MESSAGE_EXPIRATION = 8  // uint64, reference time
	TIMER_MESSAGE_DELIVERY   = 16 // uint64, reference time
	TIMER_MESSAGE_SIZE       = 24
)

// HV_EVENT_FLAGS_COUNT is the number of event flags of a source, and
// HV_EVENT_FLAGS_BYTE_COUNT the bytes that they take in the SIEF page (TLFS
// HV_SYNIC_EVENT_FLAGS).
const (
	HV_EVENT_FLAGS_COUNT      = 2048
	HV_EVENT_FLAGS_BYTE_COUNT = 256
)
