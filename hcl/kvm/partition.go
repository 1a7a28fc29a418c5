// Package kvm runs the guest on Linux's KVM, nested inside the VM that Keel
// runs in. It asks KVM for bare virtual CPUs: no in-kernel interrupt
// controllers, no paravirtual features.
//
// Specification: Documentation/virt/kvm/api.rst of the Linux kernel.
package kvm

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"keel/hcl"
	"keel/hcl/abi/kvm"
	"keel/hcl/abi/x86"
	"keel/hcl/sys"
)

// Stage sentinels.
var (
	ErrOpen   = errors.New("opening KVM")
	ErrCreate = errors.New("creating the partition")
	ErrMemory = errors.New("mapping guest memory")
	ErrVP     = errors.New("creating a VP")
	ErrState  = errors.New("VP state")
	ErrRun    = errors.New("running a VP")
)

// device is KVM's control node.
const device = "/dev/kvm"

// Partition is a KVM virtual machine.
type Partition struct {
	kvm, vm int
	runSize int
	slots   uint32

	mu  sync.Mutex
	vps []*VP
}

var _ hcl.Partition = (*Partition)(nil)

// requiredCaps are the capabilities without which Keel cannot run a guest,
// with the name for the error.
var requiredCaps = []struct {
	cap  uintptr
	name string
}{
	{kvm.CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR"},
	{kvm.CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER"},
	{kvm.CAP_ENFORCE_PV_FEATURE, "KVM_CAP_ENFORCE_PV_FEATURE_CPUID"},
}

// Open creates a partition. The error wraps hcl.ErrNotSupported when the
// machine has no usable KVM.
func Open() (*Partition, error) { return openType(kvm.X86_DEFAULT_VM) }

// openType creates a partition of one of KVM's types of virtual machines.
func openType(kind uintptr) (*Partition, error) {
	if err := hardware(); err != nil {
		return nil, err
	}
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w: %s: %w", ErrOpen, hcl.ErrNotSupported, device, err)
	}
	p := &Partition{kvm: fd, vm: -1}
	if err := p.create(kind); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// hardware checks that the processor virtualizes. There are substitutes for KVM
// that do without and run only some guests; Keel's is not among them.
func hardware() error {
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOpen, err)
	}
	if !virtualizes(string(cpuinfo)) {
		return fmt.Errorf("%w: %w: the processor has neither SVM nor VMX", ErrOpen, hcl.ErrNotSupported)
	}
	return nil
}

// virtualizes looks for svm or vmx among the processor's flags.
func virtualizes(cpuinfo string) bool {
	for line := range strings.Lines(cpuinfo) {
		if key, flags, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "flags" {
			f := strings.Fields(flags)
			return slices.Contains(f, "svm") || slices.Contains(f, "vmx")
		}
	}
	return false
}

func (p *Partition) create(kind uintptr) error {
	v, err := sys.Ioctl(p.kvm, kvm.GET_API_VERSION, 0)
	if err != nil {
		return fmt.Errorf("%w: %w: KVM_GET_API_VERSION: %w", ErrOpen, hcl.ErrNotSupported, err)
	}
	if v != kvm.API_VERSION {
		return fmt.Errorf("%w: %w: API version %d, want %d", ErrOpen, hcl.ErrNotSupported, v, kvm.API_VERSION)
	}
	for _, c := range requiredCaps {
		v, err := sys.Ioctl(p.kvm, kvm.CHECK_EXTENSION, c.cap)
		if err != nil {
			return fmt.Errorf("%w: %w: %s: %w", ErrOpen, hcl.ErrNotSupported, c.name, err)
		}
		if v == 0 {
			return fmt.Errorf("%w: %w: %s missing", ErrOpen, hcl.ErrNotSupported, c.name)
		}
	}
	if kind != kvm.X86_DEFAULT_VM {
		if err := p.offersRaw(); err != nil {
			return fmt.Errorf("%w: %w", ErrOpen, err)
		}
	}
	size, err := sys.Ioctl(p.kvm, kvm.GET_VCPU_MMAP_SIZE, 0)
	if err != nil {
		return fmt.Errorf("%w: KVM_GET_VCPU_MMAP_SIZE: %w", ErrOpen, err)
	}
	p.runSize = size
	if p.vm, err = sys.Ioctl(p.kvm, kvm.CREATE_VM, kind); err != nil {
		p.vm = -1
		return fmt.Errorf("%w: KVM_CREATE_VM: %w", ErrCreate, err)
	}
	// VPs tick at the rate that the kernel has measured by now (0), not at the
	// first guess with which KVM started. A KVM that cannot do so keeps its
	// guess, and TSCHz reports it.
	_, _ = sys.Ioctl(p.vm, kvm.SET_TSC_KHZ, 0)
	if err := p.enable(kvm.CAP_X86_USER_SPACE_MSR,
		kvm.MSR_EXIT_REASON_INVAL|kvm.MSR_EXIT_REASON_UNKNOWN|kvm.MSR_EXIT_REASON_FILTER); err != nil {
		return err
	}
	if kind != kvm.X86_DEFAULT_VM {
		return p.allowMSRs()
	}
	return p.denyMSRs()
}

// enable switches a capability of the VM on.
func (p *Partition) enable(capability uint32, arg uint64) error {
	c := kvm.EnableCap{Cap: capability}
	c.Args[0] = arg
	if _, err := sys.IoctlPtr(p.vm, kvm.ENABLE_CAP, &c); err != nil {
		return fmt.Errorf("%w: KVM_ENABLE_CAP %d: %w", ErrCreate, capability, err)
	}
	return nil
}

// MSRs that KVM would handle itself although they belong to Keel.
const (
	msrTSC         = x86.IA32_TSC
	msrAPICBase    = x86.IA32_APIC_BASE
	msrTSCAdjust   = x86.IA32_TSC_ADJUST
	msrTSCDeadline = x86.IA32_TSC_DEADLINE
)

// msrFilter mirrors struct kvm_msr_filter: 16 ranges with a bitmap each.
type msrFilter struct {
	flags, _ uint32
	ranges   [16]msrFilterRange
}

type msrFilterRange struct {
	flags, count, base uint32
	_                  uint32
	bitmap             uint64 // address of the bitmap; a zero bit denies
}

const both = kvm.MSR_FILTER_READ | kvm.MSR_FILTER_WRITE

// denyMSRs makes accesses to the MSRs above exit. What Keel forbids in
// bitmaps of zeros is denied to KVM and so reaches Keel.
func (p *Partition) denyMSRs() error {
	denied := []msrFilterRange{
		{flags: kvm.MSR_FILTER_WRITE, count: 1, base: msrTSC},
		{flags: kvm.MSR_FILTER_WRITE, count: 1, base: msrTSCAdjust},
		{flags: both, count: 1, base: msrAPICBase},
		{flags: both, count: 1, base: msrTSCDeadline},
	}
	return p.filterMSRs(0, denied, 0)
}

// allowMSRs makes accesses to all MSRs exit but for those that the processor keeps for an
// isolated guest.
func (p *Partition) allowMSRs() error {
	var allowed []msrFilterRange
	for _, k := range hcl.KeptMSRs {
		allowed = append(allowed, msrFilterRange{flags: both, count: k.Last - k.First + 1, base: k.First})
	}
	return p.filterMSRs(kvm.MSR_FILTER_DEFAULT_DENY, allowed, ^uint64(0))
}

// filterMSRs sets a filter of ranges of at most 64 registers, with the same bitmap for all.
func (p *Partition) filterMSRs(flags uint32, ranges []msrFilterRange, bitmap uint64) error {
	f := msrFilter{flags: flags}
	copy(f.ranges[:], ranges)
	_, err := sys.IoctlVia(p.vm, kvm.X86_SET_MSR_FILTER, &f, &bitmap, func(f *msrFilter, address uint64) {
		for i := range ranges {
			f.ranges[i].bitmap = address
		}
	})
	if err != nil {
		return fmt.Errorf("%w: KVM_X86_SET_MSR_FILTER: %w", ErrCreate, err)
	}
	return nil
}

// MapMemory makes memory the guest's RAM at gpa.
func (p *Partition) MapMemory(gpa x86.GPA, memory []byte) error {
	if err := wholePages(gpa, uint64(len(memory))); err != nil {
		return err
	}
	region := kvm.MemoryRegion{
		Slot:            p.slots,
		Guest_phys_addr: uint64(gpa),
		Memory_size:     uint64(len(memory)),
		Userspace_addr:  uint64(sys.AddressOf(memory)),
	}
	if _, err := sys.IoctlPtr(p.vm, kvm.SET_USER_MEMORY_REGION, &region); err != nil {
		return fmt.Errorf("%w: %#x+%#x: %w", ErrMemory, gpa, len(memory), err)
	}
	p.slots++
	return nil
}

// cpuidTable mirrors struct kvm_cpuid2 with room for maxCPUID entries.
type cpuidTable struct {
	count   uint32
	_       uint32
	entries [maxCPUID]kvm.CPUIDEntry
}

const maxCPUID = 256

// SupportedCPUID lists what this KVM can give a guest.
func (p *Partition) SupportedCPUID() ([]hcl.CPUIDEntry, error) {
	t := cpuidTable{count: maxCPUID}
	if _, err := sys.IoctlPtr(p.kvm, kvm.GET_SUPPORTED_CPUID, &t); err != nil {
		return nil, fmt.Errorf("%w: KVM_GET_SUPPORTED_CPUID: %w", ErrOpen, err)
	}
	supported := fromTable(t.entries[:min(t.count, maxCPUID)])
	if sys.Emulated() {
		supported = withoutXSave(supported)
	}
	return supported, nil
}

// TSCHz is the frequency of the guest's time stamp counter in Hz. It is zero
// when KVM does not know it.
func (p *Partition) TSCHz() uint64 {
	khz, err := sys.Ioctl(p.vm, kvm.GET_TSC_KHZ, 0)
	if err != nil || khz <= 0 {
		return 0
	}
	return uint64(khz) * 1000
}

// Close frees the partition and its VPs.
func (p *Partition) Close() error {
	var errs []error
	for _, vp := range p.vps {
		errs = append(errs, vp.close())
	}
	p.vps = nil
	for _, fd := range []int{p.vm, p.kvm} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	p.vm, p.kvm = -1, -1
	return errors.Join(errs...)
}
