package hv

// MSR_FIRST and MSR_LAST bound the model-specific registers of the interface.
const (
	MSR_FIRST = 0x40000000
	MSR_LAST  = 0x400001FF
)

// Model-specific registers. Those up to HYPERCALL, time, crash and reset belong to
// the partition, the others to a VP.
const (
	MSR_GUEST_OS_ID           = 0x40000000
	MSR_HYPERCALL             = 0x40000001
	MSR_VP_INDEX              = 0x40000002
	MSR_RESET                 = 0x40000003
	MSR_VP_RUNTIME            = 0x40000010
	MSR_TIME_REF_COUNT        = 0x40000020
	MSR_REFERENCE_TSC         = 0x40000021
	MSR_TSC_FREQUENCY         = 0x40000022
	MSR_APIC_FREQUENCY        = 0x40000023
	MSR_EOI                   = 0x40000070
	MSR_ICR                   = 0x40000071
	MSR_TPR                   = 0x40000072
	MSR_VP_ASSIST_PAGE        = 0x40000073
	MSR_SCONTROL              = 0x40000080
	MSR_SVERSION              = 0x40000081
	MSR_SIEFP                 = 0x40000082
	MSR_SIMP                  = 0x40000083
	MSR_EOM                   = 0x40000084
	MSR_SINT0                 = 0x40000090
	MSR_SINT15                = 0x4000009F
	MSR_STIMER0_CONFIG        = 0x400000B0
	MSR_STIMER0_COUNT         = 0x400000B1
	MSR_STIMER3_COUNT         = 0x400000B7
	MSR_GUEST_IDLE            = 0x400000F0
	MSR_CRASH_P0              = 0x40000100
	MSR_CRASH_P4              = 0x40000104
	MSR_CRASH_CTL             = 0x40000105
	MSR_TSC_INVARIANT_CONTROL = 0x40000118
)

// Fields that every register with the address of a page has.
const (
	PAGE_ENABLE  = 1 << 0
	PAGE_ADDRESS = ^uint64(0xFFF)
)

// APIC_NO_EOI_REQUIRED is a bit of the first word of the VP assist page: the guest clears
// it instead of ending the interrupt (TLFS "EOI Assist").
const APIC_NO_EOI_REQUIRED = 1 << 0

// HYPERCALL_LOCKED is a bit of MSR_HYPERCALL: the register takes no more writes
// until the partition is reset.
const HYPERCALL_LOCKED = 1 << 1

// RESET_SYSTEM is the bit of MSR_RESET that resets the partition.
const RESET_SYSTEM = 1 << 0

// SCONTROL_ENABLE is the bit of MSR_SCONTROL that lets messages and events in.
const SCONTROL_ENABLE = 1 << 0

// SVERSION_VALUE is what MSR_SVERSION reads as.
const SVERSION_VALUE = 1

// Fields of MSR_SINT0 to MSR_SINT15 (TLFS "SINTx Registers").
const (
	SINT_VECTOR   = 0xFF
	SINT_MASKED   = 1 << 16
	SINT_AUTO_EOI = 1 << 17
	SINT_POLLING  = 1 << 18

	// SINT_RESET is the value after a reset; SINT_FIRST_VECTOR the lowest vector.
	SINT_RESET        = SINT_MASKED
	SINT_FIRST_VECTOR = 16
)

// Fields of the synthetic timers' configuration (TLFS "Synthetic Timer
// Configuration Register").
const (
	STIMER_ENABLED      = 1 << 0
	STIMER_PERIODIC     = 1 << 1
	STIMER_LAZY         = 1 << 2
	STIMER_AUTO_ENABLE  = 1 << 3
	STIMER_VECTOR_SHIFT = 4
	STIMER_DIRECT       = 1 << 12
	STIMER_SINT_SHIFT   = 16
	STIMER_SINT         = 0xF
	STIMER_DEFINED      = 0xF1FFF // all fields; the other bits are zero
)

// Fields of MSR_CRASH_CTL (TLFS HV_CRASH_CTL_REG_CONTENTS).
const (
	CRASH_PRE_OS_ID     = 7 << 58
	CRASH_NO_CRASH_DUMP = 1 << 61
	CRASH_MESSAGE       = 1 << 62
	CRASH_NOTIFY        = 1 << 63

	// CRASH_MESSAGE_SIZE is the longest message in bytes.
	CRASH_MESSAGE_SIZE = 4096
)

// TSC_INVARIANT_EXPOSE is the bit of MSR_TSC_INVARIANT_CONTROL with which the
// guest accepts an invariant time stamp counter.
const TSC_INVARIANT_EXPOSE = 1 << 0

// Layout of the reference TSC page (TLFS HV_REFERENCE_TSC_PAGE), byte offsets.
const (
	TSC_PAGE_SEQUENCE = 0  // uint32; 0 means that the page must not be used
	TSC_PAGE_SCALE    = 8  // uint64
	TSC_PAGE_OFFSET   = 16 // int64

	// REFERENCE_HZ is the rate of the partition's reference time.
	REFERENCE_HZ = 10_000_000
)
