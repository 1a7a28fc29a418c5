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
	ram      []region
	lengths  Lengths
}

// region is memory of the guest.
type region struct {
	gpa    x86.GPA
	memory []byte
}

// Lengths makes the function that tells how long a VP's instructions are, over what reads
// the guest's memory, which returns false where there is none.
type Lengths func(read func(gpa x86.GPA, b []byte) bool) hcl.AccessLength

var _ hcl.RawFaults = (*Raw)(nil)

// OpenRaw creates such a partition. Without lengths, KVM is asked after each port
// access of RunState where its instruction ends, which costs a system call. The error wraps
// hcl.ErrNotSupported where KVM has no such partition.
func OpenRaw(lengths Lengths) (*Raw, error) {
	p, err := openType(kvm.X86_SW_PROTECTED_VM)
	if err != nil {
		return nil, err
	}
	return &Raw{Partition: p, lengths: lengths}, nil
}

// NewVP makes a virtual CPU as that of Partition does, of a guest that has its memory.
func (r *Raw) NewVP(config hcl.VPConfig) (hcl.VP, error) {
	vp, err := r.newVP(config)
	if err != nil {
		return nil, err // not a nil *VP in an interface
	}
	if r.lengths != nil {
		vp.length = r.lengths(r.read)
	}
	return vp, nil
}

// MapMemory makes memory the guest's RAM at gpa.
func (r *Raw) MapMemory(gpa x86.GPA, memory []byte) error {
	if err := r.Partition.MapMemory(gpa, memory); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ram = append(r.ram, region{gpa, memory})
	return nil
}

// read copies from the guest's memory, within one region of it.
// Preconditions: all of it is mapped.
func (r *Raw) read(gpa x86.GPA, b []byte) bool {
	for i := range r.ram {
		if at := gpa - r.ram[i].gpa; gpa >= r.ram[i].gpa && uint64(at) < uint64(len(r.ram[i].memory)) {
			return copy(b, r.ram[i].memory[at:]) == len(b)
		}
	}
	return false
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
	return r.Partition.MapMemory(gpa, nothing)
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
