// Package hv holds the numbers and layouts of the hypervisor interface that
// guests know as Hyper-V: CPUID leaves, model-specific registers, hypercalls,
// messages and event flags.
//
// Specification: Hypervisor Top Level Functional Specification (TLFS) 6.0b and
// its online edition of 2024, named by section. What the TLFS leaves out is as in
// Linux, include/hyperv/hvgdk_mini.h.
package hv

// CPUID leaves (TLFS "Feature and Interface Discovery").
const (
	CPUID_VENDOR_AND_MAX_FUNCTIONS = 0x40000000
	CPUID_INTERFACE                = 0x40000001
	CPUID_VERSION                  = 0x40000002
	CPUID_FEATURES                 = 0x40000003
	CPUID_ENLIGHTENMENT_INFO       = 0x40000004
	CPUID_IMPLEMENT_LIMITS         = 0x40000005
	CPUID_HARDWARE_FEATURES        = 0x40000006
	CPUID_CPU_MANAGEMENT_FEATURES  = 0x40000007
	CPUID_SVM_FEATURES             = 0x40000008
	CPUID_NESTED_IDENTIFICATION    = 0x40000009
	CPUID_NESTED_FEATURES          = 0x4000000A

	// Leaves of the virtualization stack, which Linux reads without a check that
	// they exist.
	CPUID_VIRT_STACK_BASE       = 0x40000080
	CPUID_VIRT_STACK_INTERFACE  = 0x40000081
	CPUID_VIRT_STACK_PROPERTIES = 0x40000082
)

// Signatures of the first two leaves.
const (
	CPUID_VENDOR_EBX    = 0x7263694D // "Micr"
	CPUID_VENDOR_ECX    = 0x666F736F // "osof"
	CPUID_VENDOR_EDX    = 0x76482074 // "t Hv"
	CPUID_INTERFACE_EAX = 0x31237648 // "Hv#1"
)

// CPUID_HYPERVISOR_PRESENT is the bit of CPUID.1:ECX that announces the leaves.
const CPUID_HYPERVISOR_PRESENT = 1 << 31

// Privileges of a partition, low half: CPUID_FEATURES EAX (TLFS
// HV_PARTITION_PRIVILEGE_MASK).
const (
	ACCESS_VP_RUNTIME_REG              = 1 << 0
	ACCESS_PARTITION_REFERENCE_COUNTER = 1 << 1
	ACCESS_SYNIC_REGS                  = 1 << 2
	ACCESS_SYNTHETIC_TIMER_REGS        = 1 << 3
	ACCESS_INTR_CTRL_REGS              = 1 << 4
	ACCESS_HYPERCALL_MSRS              = 1 << 5
	ACCESS_VP_INDEX                    = 1 << 6
	ACCESS_RESET_REG                   = 1 << 7
	ACCESS_STATS_REG                   = 1 << 8
	ACCESS_PARTITION_REFERENCE_TSC     = 1 << 9
	ACCESS_GUEST_IDLE_REG              = 1 << 10
	ACCESS_FREQUENCY_REGS              = 1 << 11
	ACCESS_REENLIGHTENMENT_CONTROLS    = 1 << 13
	ACCESS_TSC_INVARIANT_CONTROLS      = 1 << 15
)

// Privileges of a partition, high half: CPUID_FEATURES EBX.
const (
	CREATE_PARTITIONS          = 1 << 0
	ACCESS_PARTITION_ID        = 1 << 1
	ACCESS_MEMORY_POOL         = 1 << 2
	POST_MESSAGES              = 1 << 4
	SIGNAL_EVENTS              = 1 << 5
	CREATE_PORT                = 1 << 6
	CONNECT_PORT               = 1 << 7
	ACCESS_STATS               = 1 << 8
	DEBUGGING                  = 1 << 11
	CPU_MANAGEMENT             = 1 << 12
	ACCESS_VSM                 = 1 << 16
	ACCESS_VP_REGISTERS        = 1 << 17
	ENABLE_EXTENDED_HYPERCALLS = 1 << 20
	START_VIRTUAL_PROCESSOR    = 1 << 21
	ISOLATION                  = 1 << 22
)

// Features: CPUID_FEATURES EDX.
const (
	FEATURE_XMM_HYPERCALL_INPUT  = 1 << 4
	FEATURE_FREQUENCY_REGS       = 1 << 8
	FEATURE_GUEST_CRASH_MSRS     = 1 << 10
	FEATURE_EXT_GVA_RANGES_FLUSH = 1 << 14
	FEATURE_XMM_HYPERCALL_OUTPUT = 1 << 15
	FEATURE_SINT_POLLING_MODE    = 1 << 17
	FEATURE_HYPERCALL_MSR_LOCK   = 1 << 18
	FEATURE_DIRECT_TIMERS        = 1 << 19
)

// Recommendations: CPUID_ENLIGHTENMENT_INFO EAX. SPIN_NEVER_NOTIFY is an EBX.
const (
	RECOMMEND_ADDRESS_SWITCH_HYPERCALL = 1 << 0
	RECOMMEND_LOCAL_FLUSH_HYPERCALL    = 1 << 1
	RECOMMEND_REMOTE_FLUSH_HYPERCALL   = 1 << 2
	RECOMMEND_APIC_MSRS                = 1 << 3
	RECOMMEND_RESET_MSR                = 1 << 4
	RECOMMEND_RELAXED_TIMING           = 1 << 5
	RECOMMEND_DEPRECATING_AUTO_EOI     = 1 << 9
	RECOMMEND_CLUSTER_IPI              = 1 << 10
	RECOMMEND_EX_PROCESSOR_MASKS       = 1 << 11

	SPIN_NEVER_NOTIFY = 0xFFFFFFFF
)
