package kvm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"keel/hcl"
	"keel/hcl/abi/kvm"
	"keel/hcl/abi/x86"
	"keel/hcl/sys"
)

// Raw is a partition whose guest can be denied pages. To KVM it is a guest with private
// memory that is not there: a page with the attribute PRIVATE has no guest_memfd, and an
// access to it is KVM_EXIT_MEMORY_FAULT.
type Raw struct {
	*Partition
	reserved [][]byte
}

var _ hcl.RawFaults = (*Raw)(nil)

// OpenRaw creates such a partition. The error wraps hcl.ErrNotSupported where KVM has
// none.
func OpenRaw() (*Raw, error) {
	p, err := openType(kvm.X86_SW_PROTECTED_VM)
	if err != nil {
		return nil, err
	}
	return &Raw{Partition: p}, nil
}

// offersRaw checks that KVM has the type of partition and its attributes.
func (p *Partition) offersRaw() error {
	types, err := sys.Ioctl(p.kvm, kvm.CHECK_EXTENSION, kvm.CAP_VM_TYPES)
	if err != nil {
		return fmt.Errorf("%w: KVM_CAP_VM_TYPES: %w", hcl.ErrNotSupported, err)
	}
	attributes, err := sys.Ioctl(p.kvm, kvm.CHECK_EXTENSION, kvm.CAP_MEMORY_ATTRIBUTES)
	if err != nil {
		return fmt.Errorf("%w: KVM_CAP_MEMORY_ATTRIBUTES: %w", hcl.ErrNotSupported, err)
	}
	if types>>kvm.X86_SW_PROTECTED_VM&1 == 0 || attributes&kvm.MEMORY_ATTRIBUTE_PRIVATE == 0 {
		return fmt.Errorf("%w: no KVM_X86_SW_PROTECTED_VM (types %#x, attributes %#x)", hcl.ErrNotSupported, types, attributes)
	}
	return nil
}

// Deny makes accesses to a range fault.
func (r *Raw) Deny(gpa x86.GPA, length uint64) error {
	return r.attribute(gpa, length, kvm.MEMORY_ATTRIBUTE_PRIVATE)
}

// Allow undoes Deny.
func (r *Raw) Allow(gpa x86.GPA, length uint64) error { return r.attribute(gpa, length, 0) }

func (r *Raw) attribute(gpa x86.GPA, length, attributes uint64) error {
	if err := wholePages(gpa, length); err != nil {
		return err
	}
	a := kvm.MemoryAttributes{Address: uint64(gpa), Size: length, Attributes: attributes}
	if _, err := sys.IoctlPtr(r.vm, kvm.SET_MEMORY_ATTRIBUTES, &a); err != nil {
		return fmt.Errorf("%w: %#x+%#x: KVM_SET_MEMORY_ATTRIBUTES: %w", ErrMemory, gpa, length, err)
	}
	return nil
}

// Reserve denies a range without memory. KVM looks at the attributes of what has a slot
// only, so that it gets one, of addresses behind which nothing is.
func (r *Raw) Reserve(gpa x86.GPA, length uint64) error {
	if err := wholePages(gpa, length); err != nil {
		return err
	}
	nothing, err := unix.Mmap(-1, 0, int(length), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("%w: %#x+%#x: %w", ErrMemory, gpa, length, err)
	}
	r.mu.Lock()
	r.reserved = append(r.reserved, nothing)
	r.mu.Unlock()
	// Denied before there is a slot: there is no moment without.
	if err := r.Deny(gpa, length); err != nil {
		return err
	}
	return r.MapMemory(gpa, nothing)
}

// Close ends the partition.
func (r *Raw) Close() error {
	err := r.Partition.Close()
	for _, m := range r.reserved {
		err = errors.Join(err, unix.Munmap(m))
	}
	r.reserved = nil
	return err
}

// maxRange bounds a range: the addresses that a processor has.
const maxRange = 1 << 52

func wholePages(gpa x86.GPA, length uint64) error {
	if (uint64(gpa)|length)%x86.PageSize != 0 || length == 0 || length > maxRange || uint64(gpa) > maxRange-length {
		return fmt.Errorf("%w: %#x+%#x is not whole pages", ErrMemory, gpa, length)
	}
	return nil
}
