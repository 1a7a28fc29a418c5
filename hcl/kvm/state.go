package kvm

import (
	"fmt"

	"keel/hcl"
	"keel/hcl/abi/kvm"
	"keel/hcl/sys"
)

// maxMSRs bounds the list of MSRs that KVM offers to save.
const maxMSRs = 512

// msrList mirrors struct kvm_msr_list.
type msrList struct {
	count   uint32
	indices [maxMSRs]uint32
}

// oneMSR mirrors struct kvm_msrs with a single entry.
type oneMSR struct {
	count uint32
	_     uint32
	entry kvm.MSREntry
}

// MSR reads a model-specific register that KVM keeps.
func (vp *VP) MSR(index uint32) (uint64, error) {
	t := oneMSR{count: 1, entry: kvm.MSREntry{Index: index}}
	if n, err := sys.IoctlPtr(vp.fd, kvm.GET_MSRS, &t); err != nil || n != 1 {
		return 0, fmt.Errorf("%w: KVM_GET_MSRS %#x: %d, %w", ErrState, index, n, err)
	}
	return t.entry.Data, nil
}

// SetMSR writes a model-specific register that KVM keeps.
func (vp *VP) SetMSR(index uint32, value uint64) error {
	t := oneMSR{count: 1, entry: kvm.MSREntry{Index: index, Data: value}}
	n, err := sys.IoctlPtr(vp.fd, kvm.SET_MSRS, &t)
	if err != nil {
		return fmt.Errorf("%w: KVM_SET_MSRS %#x: %w", ErrState, index, err)
	}
	if n != 1 {
		return fmt.Errorf("%w: KVM_SET_MSRS %#x = %#x: refused", ErrState, index, value)
	}
	if index == msrTSC || index == msrTSCAdjust {
		return vp.readTSCOffset()
	}
	return nil
}

// snapshot is the whole power-on state of a virtual CPU as KVM made it. A reset
// of the guest puts it back.
type snapshot struct {
	regs   kvm.Regs
	sregs  kvm.SRegs
	xsave  kvm.XSave
	xcrs   kvm.XCRs
	debug  kvm.DebugRegs
	events [kvm.SizeofVCPUEvents]byte
	msrs   []kvm.MSREntry
}

// apicBaseEnabled is IA32_APIC_BASE as KVM must see it. KVM uses it only to
// compute CPUID; the guest's own value is kept by vtl/apic.
const apicBaseEnabled = 0xfee00000 | 1<<11

// save records the state right after creation.
func (s *snapshot) save(p *Partition, vp *VP, index int) error {
	var list msrList
	list.count = maxMSRs
	if _, err := sys.IoctlPtr(p.kvm, kvm.GET_MSR_INDEX_LIST, &list); err != nil {
		return fmt.Errorf("%w: KVM_GET_MSR_INDEX_LIST: %w", ErrState, err)
	}
	for _, i := range list.indices[:min(list.count, maxMSRs)] {
		// Time goes on over a reset; everything else that can be read goes back.
		if i == msrTSC || i == msrTSCAdjust || i == msrTSCDeadline || i == msrAPICBase {
			continue
		}
		if v, err := vp.MSR(i); err == nil {
			s.msrs = append(s.msrs, kvm.MSREntry{Index: i, Data: v})
		}
	}
	for _, get := range s.requests(true) {
		if err := get(vp.fd); err != nil {
			return err
		}
	}
	s.sregs.Apic_base = apicBaseEnabled
	if index == 0 {
		s.sregs.Apic_base |= 1 << 8 // bootstrap processor
	}
	return vp.Reset()
}

// request reads or writes one structure of a virtual CPU.
type request func(fd int) error

func exchange[T any](name string, number uintptr, arg *T) request {
	return func(fd int) error {
		if _, err := sys.IoctlPtr(fd, number, arg); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrState, name, err)
		}
		return nil
	}
}

// requests lists the exchanges that read the state, or that write it, in an
// order that KVM accepts.
func (s *snapshot) requests(get bool) []request {
	if get {
		return []request{
			exchange("KVM_GET_REGS", kvm.GET_REGS, &s.regs),
			exchange("KVM_GET_SREGS", kvm.GET_SREGS, &s.sregs),
			exchange("KVM_GET_XSAVE", kvm.GET_XSAVE, &s.xsave),
			exchange("KVM_GET_XCRS", kvm.GET_XCRS, &s.xcrs),
			exchange("KVM_GET_DEBUGREGS", kvm.GET_DEBUGREGS, &s.debug),
			exchange("KVM_GET_VCPU_EVENTS", kvm.GET_VCPU_EVENTS, &s.events),
		}
	}
	return []request{
		exchange("KVM_SET_SREGS", kvm.SET_SREGS, &s.sregs),
		exchange("KVM_SET_REGS", kvm.SET_REGS, &s.regs),
		exchange("KVM_SET_XCRS", kvm.SET_XCRS, &s.xcrs),
		exchange("KVM_SET_XSAVE", kvm.SET_XSAVE, &s.xsave),
		exchange("KVM_SET_DEBUGREGS", kvm.SET_DEBUGREGS, &s.debug),
		exchange("KVM_SET_VCPU_EVENTS", kvm.SET_VCPU_EVENTS, &s.events),
	}
}

// Reset puts the virtual CPU back into its power-on state.
func (vp *VP) Reset() error {
	// What KVM has yet to finish belongs to the time before.
	vp.settle()
	vp.early = false
	for _, set := range vp.powerOn.requests(false) {
		if err := set(vp.fd); err != nil {
			return err
		}
	}
	for _, m := range vp.powerOn.msrs {
		// KVM lists some MSRs that it lets nobody write; they cannot have
		// changed.
		_ = vp.SetMSR(m.Index, m.Data)
	}
	vp.RequestInterruptWindow(false)
	vp.SetCR8(0)
	clear(vp.run[kvm.RunReadyForInjection : kvm.RunIFFlag+1])
	return nil
}

// Registers reads the general-purpose registers.
func (vp *VP) Registers() (hcl.Registers, error) {
	var r kvm.Regs
	if err := exchange("KVM_GET_REGS", kvm.GET_REGS, &r)(vp.fd); err != nil {
		return hcl.Registers{}, err
	}
	return hcl.Registers{
		RAX: r.Rax, RBX: r.Rbx, RCX: r.Rcx, RDX: r.Rdx, RSI: r.Rsi, RDI: r.Rdi, RSP: r.Rsp, RBP: r.Rbp,
		R8: r.R8, R9: r.R9, R10: r.R10, R11: r.R11, R12: r.R12, R13: r.R13, R14: r.R14, R15: r.R15,
		RIP: r.Rip, RFLAGS: r.Rflags,
	}, nil
}

// SetRegisters writes the general-purpose registers.
func (vp *VP) SetRegisters(r *hcl.Registers) error {
	k := kvm.Regs{
		Rax: r.RAX, Rbx: r.RBX, Rcx: r.RCX, Rdx: r.RDX, Rsi: r.RSI, Rdi: r.RDI, Rsp: r.RSP, Rbp: r.RBP,
		R8: r.R8, R9: r.R9, R10: r.R10, R11: r.R11, R12: r.R12, R13: r.R13, R14: r.R14, R15: r.R15,
		Rip: r.RIP, Rflags: r.RFLAGS,
	}
	return exchange("KVM_SET_REGS", kvm.SET_REGS, &k)(vp.fd)
}
