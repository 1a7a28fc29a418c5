package kvm

// What <linux/kvm.h> of Debian 12 does not have yet (Linux 6.8 and newer,
// Documentation/virt/kvm/api.rst §4.140, §5 "KVM_EXIT_MEMORY_FAULT").
const (
	SET_MEMORY_ATTRIBUTES    = 0x4020aed2 // _IOW(KVMIO, 0xd2, struct kvm_memory_attributes)
	MEMORY_ATTRIBUTE_PRIVATE = 1 << 3
	CAP_MEMORY_ATTRIBUTES    = 233
	CAP_VM_TYPES             = 235
	X86_DEFAULT_VM           = 0
	X86_SW_PROTECTED_VM      = 1
	EXIT_MEMORY_FAULT        = 39

	// Offset into struct kvm_run, in bytes: after the flags, in the union.
	RunMemoryFaultGPA = 0x28
)

// MemoryAttributes is struct kvm_memory_attributes.
type MemoryAttributes struct {
	Address, Size, Attributes, Flags uint64
}
