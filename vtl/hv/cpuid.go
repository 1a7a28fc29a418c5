package hv

import (
	"keel/hcl"
	"keel/hcl/abi/hv"
)

// The version that guests print: that of Windows Server 2022, whose features these
// are a part of.
const (
	versionBuild = 20348
	versionMajor = 10
	versionMinor = 0
)

// spinRetries is after how many failed attempts at a lock a guest should call
// HvCallNotifyLongSpinWait.
const spinRetries = 0xFFF

// recommendations is EAX of the leaf of that name. Auto-EOI is deprecated because the
// local APIC does not do it; Linux 5.10 and later then end their interrupts themselves.
// Interrupts by hypercall reach many VPs with one exit. Flushes by hypercall stop every
// VP, as the guest's own interrupts do: they are there, and not recommended.
const recommendations = hv.RECOMMEND_DEPRECATING_AUTO_EOI | hv.RECOMMEND_CLUSTER_IPI | hv.RECOMMEND_EX_PROCESSOR_MASKS

// CPUID returns the leaves of the interface. CPUID.1:ECX must have the bit
// CPUID_HYPERVISOR_PRESENT beside them. They promise what this package does and
// nothing else.
// Preconditions: SetTSCHz has been called if the frequency is known.
func (h *Hypervisor) CPUID() []hcl.CPUIDEntry {
	low, high, features := h.privileges()
	advice := uint32(recommendations)
	if h.config.APIC != nil {
		advice |= hv.RECOMMEND_APIC_MSRS // and with them the end of interrupt that is spared
	}
	return []hcl.CPUIDEntry{
		{
			Leaf: hv.CPUID_VENDOR_AND_MAX_FUNCTIONS, EAX: hv.CPUID_NESTED_FEATURES,
			EBX: hv.CPUID_VENDOR_EBX, ECX: hv.CPUID_VENDOR_ECX, EDX: hv.CPUID_VENDOR_EDX,
		},
		{Leaf: hv.CPUID_INTERFACE, EAX: hv.CPUID_INTERFACE_EAX},
		{Leaf: hv.CPUID_VERSION, EAX: versionBuild, EBX: versionMajor<<16 | versionMinor},
		{Leaf: hv.CPUID_FEATURES, EAX: low, EBX: high, EDX: features},
		{Leaf: hv.CPUID_ENLIGHTENMENT_INFO, EAX: advice, EBX: spinRetries},
		{Leaf: hv.CPUID_IMPLEMENT_LIMITS, EAX: MaxVPs, EBX: MaxVPs},
		{Leaf: hv.CPUID_HARDWARE_FEATURES},
		{Leaf: hv.CPUID_CPU_MANAGEMENT_FEATURES},
		{Leaf: hv.CPUID_SVM_FEATURES},
		{Leaf: hv.CPUID_NESTED_IDENTIFICATION},
		{Leaf: hv.CPUID_NESTED_FEATURES},
		// Zeros, lest a processor answer with another leaf.
		{Leaf: hv.CPUID_VIRT_STACK_BASE},
		{Leaf: hv.CPUID_VIRT_STACK_INTERFACE},
		{Leaf: hv.CPUID_VIRT_STACK_PROPERTIES},
	}
}

// privileges returns EAX, EBX and EDX of the features leaf.
func (h *Hypervisor) privileges() (low, high, features uint32) {
	low = hv.ACCESS_PARTITION_REFERENCE_COUNTER | hv.ACCESS_SYNIC_REGS | hv.ACCESS_SYNTHETIC_TIMER_REGS |
		hv.ACCESS_HYPERCALL_MSRS | hv.ACCESS_VP_INDEX
	high = hv.POST_MESSAGES | hv.SIGNAL_EVENTS
	features = hv.FEATURE_GUEST_CRASH_MSRS | hv.FEATURE_SINT_POLLING_MODE | hv.FEATURE_HYPERCALL_MSR_LOCK | hv.FEATURE_DIRECT_TIMERS
	if h.config.APIC != nil {
		low |= hv.ACCESS_INTR_CTRL_REGS
	}
	if h.config.Reset != nil {
		low |= hv.ACCESS_RESET_REG
	}
	if h.reference.usable() {
		// Linux gives up the time stamp counter where it cannot declare it invariant.
		low |= hv.ACCESS_PARTITION_REFERENCE_TSC | hv.ACCESS_TSC_INVARIANT_CONTROLS
	}
	if h.frequencies() {
		low |= hv.ACCESS_FREQUENCY_REGS
		features |= hv.FEATURE_FREQUENCY_REGS
	}
	return low, high, features
}

// frequencies reports whether the frequency registers exist: both or none.
func (h *Hypervisor) frequencies() bool { return h.reference.hz.Load() != 0 && h.config.APICHz != 0 }
