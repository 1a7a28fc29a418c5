package kvm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"keel/hcl"
	"keel/hcl/abi/kvm"
	"keel/hcl/sys"
)

// VP is a virtual CPU of KVM, bound to the thread that made it.
type VP struct {
	fd  int
	tid int
	// run is the page that KVM shares with this process. The guest cannot
	// reach it; only the VP's own thread uses it.
	run       []byte
	tscOffset uint64
	powerOn   snapshot

	// unsettled is set while KVM has an access of the guest to finish; early
	// when finishing it led to another exit, with errno, that Run has yet to
	// return.
	unsettled, early bool
	errno            unix.Errno
	// redelivered is set while KVM gets a second chance to deliver an event.
	redelivered bool
	stepping    bool // as Step was told
}

var _ hcl.VP = (*VP)(nil)

// NewVP makes a virtual CPU for the calling thread.
// Preconditions: the goroutine is locked to its thread.
func (p *Partition) NewVP(config hcl.VPConfig) (hcl.VP, error) {
	if len(config.CPUID) > maxCPUID {
		return nil, fmt.Errorf("%w: %d CPUID entries, at most %d", ErrVP, len(config.CPUID), maxCPUID)
	}
	if err := sys.LeaveFirstCPU(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrVP, err)
	}
	fd, err := sys.Ioctl(p.vm, kvm.CREATE_VCPU, uintptr(config.APICID))
	if err != nil {
		return nil, fmt.Errorf("%w: KVM_CREATE_VCPU %d: %w", ErrVP, config.APICID, err)
	}
	vp := &VP{fd: fd, tid: unix.Gettid()}
	if err := vp.init(p, config); err != nil {
		_ = vp.close()
		return nil, err
	}
	p.mu.Lock()
	p.vps = append(p.vps, vp)
	p.mu.Unlock()
	return vp, nil
}

func (vp *VP) init(p *Partition, config hcl.VPConfig) error {
	var err error
	if vp.run, err = unix.Mmap(vp.fd, 0, p.runSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("%w: mapping its run page: %w", ErrVP, err)
	}
	vp.run[kvm.RunValidRegs] = kvm.SYNC_X86_REGS // RIP is in the run page after every exit
	// Paravirtual MSRs of KVM are refused unless CPUID offers them.
	pv := kvm.EnableCap{Cap: kvm.CAP_ENFORCE_PV_FEATURE}
	pv.Args[0] = 1
	if _, err := sys.IoctlPtr(vp.fd, kvm.ENABLE_CAP, &pv); err != nil {
		return fmt.Errorf("%w: KVM_CAP_ENFORCE_PV_FEATURE_CPUID: %w", ErrVP, err)
	}
	t := cpuidTable{count: uint32(len(config.CPUID))}
	for i, e := range config.CPUID {
		k := &t.entries[i]
		k.Function, k.Index = e.Leaf, e.Subleaf
		k.Eax, k.Ebx, k.Ecx, k.Edx = e.EAX, e.EBX, e.ECX, e.EDX
		if e.Indexed {
			k.Flags = kvm.CPUID_FLAG_SIGNIFCANT_INDEX
		}
	}
	if _, err := sys.IoctlPtr(vp.fd, kvm.SET_CPUID2, &t); err != nil {
		return fmt.Errorf("%w: KVM_SET_CPUID2: %w", ErrVP, err)
	}
	mask := signalMask{length: uint32(len(sys.KickMask())), set: sys.KickMask()}
	if _, err := sys.IoctlPtr(vp.fd, kvm.SET_SIGNAL_MASK, &mask); err != nil {
		return fmt.Errorf("%w: KVM_SET_SIGNAL_MASK: %w", ErrVP, err)
	}
	if err := vp.powerOn.save(p, vp, config.Index); err != nil {
		return err
	}
	return vp.readTSCOffset()
}

// signalMask mirrors struct kvm_signal_mask with the kernel's 8-byte set.
type signalMask struct {
	length uint32
	set    [8]byte
}

// readTSCOffset learns what KVM adds to the host's time stamp counter.
func (vp *VP) readTSCOffset() error {
	attr := kvm.DeviceAttr{Group: kvm.VCPU_TSC_CTRL, Attr: kvm.VCPU_TSC_OFFSET}
	var offset uint64
	_, err := sys.IoctlVia(vp.fd, kvm.GET_DEVICE_ATTR, &attr, &offset, func(a *kvm.DeviceAttr, address uint64) {
		a.Addr = address
	})
	if err != nil {
		return fmt.Errorf("%w: KVM_VCPU_TSC_OFFSET: %w", ErrState, err)
	}
	vp.tscOffset = offset
	return nil
}

// TSC reads the guest's time stamp counter.
func (vp *VP) TSC() uint64 { return sys.RDTSC() + vp.tscOffset }

// Kick makes Run return ExitKick.
func (vp *VP) Kick() { sys.Kick(vp.tid) }

// CanInject reports whether the guest takes an external interrupt now.
func (vp *VP) CanInject() bool {
	if vp.run[kvm.RunReadyForInjection] == 0 {
		return false
	}
	vp.settle()
	return !vp.early && vp.run[kvm.RunReadyForInjection] != 0
}

// InterruptFlag reports RFLAGS.IF as of the last exit.
func (vp *VP) InterruptFlag() bool { return vp.run[kvm.RunIFFlag] != 0 }

// RequestInterruptWindow asks for an exit when CanInject becomes true.
func (vp *VP) RequestInterruptWindow(on bool) {
	vp.run[kvm.RunRequestInterruptWindow] = 0
	if on {
		vp.run[kvm.RunRequestInterruptWindow] = 1
	}
}

// CR8 is the guest's task priority.
func (vp *VP) CR8() uint8 { return uint8(binary.LittleEndian.Uint64(vp.run[kvm.RunCR8:])) }

// SetCR8 sets the task priority for the next entry.
func (vp *VP) SetCR8(v uint8) { binary.LittleEndian.PutUint64(vp.run[kvm.RunCR8:], uint64(v&0xf)) }

// Inject queues an external interrupt.
func (vp *VP) Inject(vector uint8) error {
	v := uint32(vector)
	if _, err := sys.IoctlPtr(vp.fd, kvm.INTERRUPT, &v); err != nil {
		return fmt.Errorf("%w: KVM_INTERRUPT %d: %w", ErrRun, vector, err)
	}
	// Until the next exit says otherwise there is no room for another one.
	vp.run[kvm.RunReadyForInjection] = 0
	return nil
}

// InjectNMI queues a non-maskable interrupt.
func (vp *VP) InjectNMI() error {
	if _, err := sys.Ioctl(vp.fd, kvm.NMI, 0); err != nil {
		return fmt.Errorf("%w: KVM_NMI: %w", ErrRun, err)
	}
	return nil
}

// Offsets into struct kvm_vcpu_events, in bytes (<linux/kvm.h>).
const (
	eventInjected = 0
	eventVector   = 1
	eventHasCode  = 2
	eventCode     = 4
)

// InjectException queues an exception.
func (vp *VP) InjectException(vector uint8, code uint32, hasCode bool) error {
	var events [kvm.SizeofVCPUEvents]byte
	if err := exchange("KVM_GET_VCPU_EVENTS", kvm.GET_VCPU_EVENTS, &events)(vp.fd); err != nil {
		return err
	}
	events[eventInjected], events[eventVector], events[eventHasCode] = 1, vector, 0
	if hasCode {
		events[eventHasCode] = 1
	}
	binary.LittleEndian.PutUint32(events[eventCode:], code)
	return exchange("KVM_SET_VCPU_EVENTS", kvm.SET_VCPU_EVENTS, &events)(vp.fd)
}

// close frees the virtual CPU.
func (vp *VP) close() error {
	var err error
	if vp.run != nil {
		err = unix.Munmap(vp.run)
		vp.run = nil
	}
	if vp.fd >= 0 {
		err = errors.Join(err, unix.Close(vp.fd))
		vp.fd = -1
	}
	return err
}
