//go:build ignore

// This file is the input of `go tool cgo -godefs`; see generate.go.

package kvm

/*
#include <stddef.h>
#include <linux/kvm.h>

enum {
	off_request_interrupt_window = offsetof(struct kvm_run, request_interrupt_window),
	off_immediate_exit = offsetof(struct kvm_run, immediate_exit),
	off_exit_reason = offsetof(struct kvm_run, exit_reason),
	off_ready_for_injection = offsetof(struct kvm_run, ready_for_interrupt_injection),
	off_if_flag = offsetof(struct kvm_run, if_flag),
	off_cr8 = offsetof(struct kvm_run, cr8),
	off_io_direction = offsetof(struct kvm_run, io.direction),
	off_io_size = offsetof(struct kvm_run, io.size),
	off_io_port = offsetof(struct kvm_run, io.port),
	off_io_count = offsetof(struct kvm_run, io.count),
	off_io_data_offset = offsetof(struct kvm_run, io.data_offset),
	off_mmio_gpa = offsetof(struct kvm_run, mmio.phys_addr),
	off_mmio_data = offsetof(struct kvm_run, mmio.data),
	off_mmio_len = offsetof(struct kvm_run, mmio.len),
	off_mmio_is_write = offsetof(struct kvm_run, mmio.is_write),
	off_msr_error = offsetof(struct kvm_run, msr.error),
	off_msr_index = offsetof(struct kvm_run, msr.index),
	off_msr_data = offsetof(struct kvm_run, msr.data),
	off_fail_reason = offsetof(struct kvm_run, fail_entry.hardware_entry_failure_reason),
	off_internal_suberror = offsetof(struct kvm_run, internal.suberror),
	off_valid_regs = offsetof(struct kvm_run, kvm_valid_regs),
	off_sync_rip = offsetof(struct kvm_run, s.regs.regs.rip),
};
*/
import "C"

// Structures that ioctls exchange.
type (
	Regs         C.struct_kvm_regs
	Segment      C.struct_kvm_segment
	DTable       C.struct_kvm_dtable
	SRegs        C.struct_kvm_sregs
	DebugRegs    C.struct_kvm_debugregs
	XCR          C.struct_kvm_xcr
	XCRs         C.struct_kvm_xcrs
	XSave        C.struct_kvm_xsave
	CPUIDEntry   C.struct_kvm_cpuid_entry2
	MSREntry     C.struct_kvm_msr_entry
	EnableCap    C.struct_kvm_enable_cap
	MemoryRegion C.struct_kvm_userspace_memory_region
	DeviceAttr   C.struct_kvm_device_attr
	GuestDebug   C.struct_kvm_guest_debug
	DebugArch    C.struct_kvm_guest_debug_arch
)

// Requests.
const (
	GET_API_VERSION        = C.KVM_GET_API_VERSION
	CREATE_VM              = C.KVM_CREATE_VM
	CHECK_EXTENSION        = C.KVM_CHECK_EXTENSION
	GET_VCPU_MMAP_SIZE     = C.KVM_GET_VCPU_MMAP_SIZE
	GET_SUPPORTED_CPUID    = C.KVM_GET_SUPPORTED_CPUID
	GET_MSR_INDEX_LIST     = C.KVM_GET_MSR_INDEX_LIST
	CREATE_VCPU            = C.KVM_CREATE_VCPU
	SET_USER_MEMORY_REGION = C.KVM_SET_USER_MEMORY_REGION
	SET_TSS_ADDR           = C.KVM_SET_TSS_ADDR
	SET_IDENTITY_MAP_ADDR  = C.KVM_SET_IDENTITY_MAP_ADDR
	ENABLE_CAP             = C.KVM_ENABLE_CAP
	X86_SET_MSR_FILTER     = C.KVM_X86_SET_MSR_FILTER
	RUN                    = C.KVM_RUN
	INTERRUPT              = C.KVM_INTERRUPT
	NMI                    = C.KVM_NMI
	GET_REGS               = C.KVM_GET_REGS
	SET_REGS               = C.KVM_SET_REGS
	GET_SREGS              = C.KVM_GET_SREGS
	SET_SREGS              = C.KVM_SET_SREGS
	GET_MSRS               = C.KVM_GET_MSRS
	SET_MSRS               = C.KVM_SET_MSRS
	SET_CPUID2             = C.KVM_SET_CPUID2
	SET_SIGNAL_MASK        = C.KVM_SET_SIGNAL_MASK
	GET_TSC_KHZ            = C.KVM_GET_TSC_KHZ
	SET_TSC_KHZ            = C.KVM_SET_TSC_KHZ
	GET_XSAVE              = C.KVM_GET_XSAVE
	SET_XSAVE              = C.KVM_SET_XSAVE
	GET_XCRS               = C.KVM_GET_XCRS
	SET_XCRS               = C.KVM_SET_XCRS
	GET_DEBUGREGS          = C.KVM_GET_DEBUGREGS
	SET_DEBUGREGS          = C.KVM_SET_DEBUGREGS
	GET_VCPU_EVENTS        = C.KVM_GET_VCPU_EVENTS
	SET_VCPU_EVENTS        = C.KVM_SET_VCPU_EVENTS
	GET_DEVICE_ATTR        = C.KVM_GET_DEVICE_ATTR
	SET_GUEST_DEBUG        = C.KVM_SET_GUEST_DEBUG
)

// Capabilities and their arguments.
const (
	API_VERSION                 = C.KVM_API_VERSION
	CAP_X86_USER_SPACE_MSR      = C.KVM_CAP_X86_USER_SPACE_MSR
	CAP_X86_MSR_FILTER          = C.KVM_CAP_X86_MSR_FILTER
	CAP_ENFORCE_PV_FEATURE      = C.KVM_CAP_ENFORCE_PV_FEATURE_CPUID
	CAP_IMMEDIATE_EXIT          = C.KVM_CAP_IMMEDIATE_EXIT
	CAP_TSC_DEADLINE_TIMER      = C.KVM_CAP_TSC_DEADLINE_TIMER
	MSR_EXIT_REASON_INVAL       = C.KVM_MSR_EXIT_REASON_INVAL
	MSR_EXIT_REASON_UNKNOWN     = C.KVM_MSR_EXIT_REASON_UNKNOWN
	MSR_EXIT_REASON_FILTER      = C.KVM_MSR_EXIT_REASON_FILTER
	MSR_FILTER_DEFAULT_DENY     = C.KVM_MSR_FILTER_DEFAULT_DENY
	MSR_FILTER_READ             = C.KVM_MSR_FILTER_READ
	MSR_FILTER_WRITE            = C.KVM_MSR_FILTER_WRITE
	VCPU_TSC_CTRL               = C.KVM_VCPU_TSC_CTRL
	VCPU_TSC_OFFSET             = C.KVM_VCPU_TSC_OFFSET
	CPUID_FLAG_SIGNIFCANT_INDEX = C.KVM_CPUID_FLAG_SIGNIFCANT_INDEX
	SYNC_X86_REGS               = C.KVM_SYNC_X86_REGS
	GUESTDBG_ENABLE             = C.KVM_GUESTDBG_ENABLE
	GUESTDBG_SINGLESTEP         = C.KVM_GUESTDBG_SINGLESTEP
)

// Exit reasons.
const (
	EXIT_IO              = C.KVM_EXIT_IO
	EXIT_DEBUG           = C.KVM_EXIT_DEBUG
	EXIT_HLT             = C.KVM_EXIT_HLT
	EXIT_MMIO            = C.KVM_EXIT_MMIO
	EXIT_IRQ_WINDOW_OPEN = C.KVM_EXIT_IRQ_WINDOW_OPEN
	EXIT_SHUTDOWN        = C.KVM_EXIT_SHUTDOWN
	EXIT_FAIL_ENTRY      = C.KVM_EXIT_FAIL_ENTRY
	EXIT_INTR            = C.KVM_EXIT_INTR
	EXIT_SET_TPR         = C.KVM_EXIT_SET_TPR
	EXIT_INTERNAL_ERROR  = C.KVM_EXIT_INTERNAL_ERROR
	EXIT_X86_RDMSR       = C.KVM_EXIT_X86_RDMSR
	EXIT_X86_WRMSR       = C.KVM_EXIT_X86_WRMSR
	EXIT_IO_OUT          = C.KVM_EXIT_IO_OUT

	INTERNAL_ERROR_DELIVERY_EV = C.KVM_INTERNAL_ERROR_DELIVERY_EV
)

// Offsets into struct kvm_run, in bytes.
const (
	RunRequestInterruptWindow = C.off_request_interrupt_window
	RunImmediateExit          = C.off_immediate_exit
	RunExitReason             = C.off_exit_reason
	RunReadyForInjection      = C.off_ready_for_injection
	RunIFFlag                 = C.off_if_flag
	RunCR8                    = C.off_cr8
	RunIODirection            = C.off_io_direction
	RunIOSize                 = C.off_io_size
	RunIOPort                 = C.off_io_port
	RunIOCount                = C.off_io_count
	RunIODataOffset           = C.off_io_data_offset
	RunMMIOGPA                = C.off_mmio_gpa
	RunMMIOData               = C.off_mmio_data
	RunMMIOLen                = C.off_mmio_len
	RunMMIOIsWrite            = C.off_mmio_is_write
	RunMSRError               = C.off_msr_error
	RunMSRIndex               = C.off_msr_index
	RunMSRData                = C.off_msr_data
	RunFailReason             = C.off_fail_reason
	RunInternalSuberror       = C.off_internal_suberror
	RunValidRegs              = C.off_valid_regs
	RunSyncRIP                = C.off_sync_rip
	SizeofVCPUEvents          = C.sizeof_struct_kvm_vcpu_events
)
