package kvm

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"keel/hcl"
	"keel/hcl/abi/kvm"
	"keel/hcl/abi/x86"
	"keel/hcl/sys"
)

// Run enters the guest. It returns, by KVM's exit reason:
//
//	EINTR, EAGAIN     ExitKick (a kick, which is consumed, or Go's preemption)
//	IO                ExitPIO, Data in the shared run area
//	MMIO              ExitMMIO, Data in the run page
//	X86_RDMSR, _WRMSR ExitMSRRead, ExitMSRWrite
//	DEBUG, HLT, IRQ_WINDOW_OPEN, SET_TPR, SHUTDOWN   the exit of that name
//	INTERNAL_ERROR    ExitEmulationFailed: code that KVM cannot emulate
//	EFAULT            ExitMemoryFault with reason MEMORY_FAULT: the page is denied;
//	                  else ExitEmulationFailed: a mapping behind guest memory failed
//	anything else     an error: KVM itself failed
func (vp *VP) Run() (hcl.Exit, error) {
	e, err := vp.stepOrEnter()
	e.RIP = vp.u64(kvm.RunSyncRIP)
	return e, err
}

func (vp *VP) enter() (hcl.Exit, error) {
	if !vp.early {
		vp.errno = sys.Enter(vp.fd, kvm.RUN)
	}
	vp.early, vp.unsettled = false, false
	switch errno := vp.errno; errno {
	case 0:
	case unix.EINTR, unix.EAGAIN:
		sys.DrainKick()
		return hcl.Exit{Kind: hcl.ExitKick}, nil
	case unix.EFAULT:
		if vp.u32(kvm.RunExitReason) == kvm.EXIT_MEMORY_FAULT {
			return hcl.Exit{Kind: hcl.ExitMemoryFault, GPA: x86.GPA(vp.u64(kvm.RunMemoryFaultGPA))}, nil
		}
		return hcl.Exit{Kind: hcl.ExitEmulationFailed, Value: uint64(errno)}, nil
	default:
		return hcl.Exit{}, fmt.Errorf("%w: KVM_RUN: %w", ErrRun, errno)
	}
	reason := vp.u32(kvm.RunExitReason)
	if reason != kvm.EXIT_INTERNAL_ERROR {
		vp.redelivered = false
	}
	switch reason {
	case kvm.EXIT_IO, kvm.EXIT_MMIO, kvm.EXIT_X86_RDMSR, kvm.EXIT_X86_WRMSR:
		vp.unsettled = true
	}
	switch reason {
	case kvm.EXIT_IO:
		return vp.exitPIO()
	case kvm.EXIT_MMIO:
		n := min(vp.u32(kvm.RunMMIOLen), 8)
		return hcl.Exit{
			Kind:  hcl.ExitMMIO,
			Write: vp.run[kvm.RunMMIOIsWrite] != 0,
			Size:  uint8(n),
			GPA:   x86.GPA(vp.u64(kvm.RunMMIOGPA)),
			Data:  vp.run[kvm.RunMMIOData : kvm.RunMMIOData+n : kvm.RunMMIOData+n],
		}, nil
	case kvm.EXIT_X86_RDMSR:
		return hcl.Exit{Kind: hcl.ExitMSRRead, MSR: vp.u32(kvm.RunMSRIndex)}, nil
	case kvm.EXIT_X86_WRMSR:
		return hcl.Exit{Kind: hcl.ExitMSRWrite, MSR: vp.u32(kvm.RunMSRIndex), Value: vp.u64(kvm.RunMSRData)}, nil
	case kvm.EXIT_DEBUG:
		return hcl.Exit{Kind: hcl.ExitDebug}, nil
	case kvm.EXIT_HLT:
		return hcl.Exit{Kind: hcl.ExitHalt}, nil
	case kvm.EXIT_IRQ_WINDOW_OPEN:
		return hcl.Exit{Kind: hcl.ExitInterruptWindow}, nil
	case kvm.EXIT_SET_TPR:
		return hcl.Exit{Kind: hcl.ExitTPR}, nil
	case kvm.EXIT_INTR:
		return hcl.Exit{Kind: hcl.ExitKick}, nil
	case kvm.EXIT_SHUTDOWN:
		return hcl.Exit{Kind: hcl.ExitShutdown}, nil
	case kvm.EXIT_INTERNAL_ERROR:
		return vp.exitInternalError(), nil
	case kvm.EXIT_FAIL_ENTRY:
		return hcl.Exit{}, fmt.Errorf("%w: entry failed, hardware reason %#x", ErrRun, vp.u64(kvm.RunFailReason))
	default:
		return hcl.Exit{}, fmt.Errorf("%w: exit reason %d is not one that was asked for", ErrRun, reason)
	}
}

// settle lets KVM finish the access of the last exit without entering the
// guest. Finishing may raise an exception in the guest, and KVM drops an
// interrupt that it was given before that: the guest would wait for ever. It
// may also end in another exit, which the next Run then returns.
func (vp *VP) settle() {
	if !vp.unsettled || vp.early {
		return
	}
	vp.unsettled = false
	vp.run[kvm.RunImmediateExit] = 1
	vp.errno = sys.Enter(vp.fd, kvm.RUN)
	vp.run[kvm.RunImmediateExit] = 0
	vp.early = vp.errno != unix.EINTR
}

// exitInternalError handles what KVM cannot go on with. KVM does not emulate an
// access by the delivery of an event, and sees one under way when EXITINTINFO has
// a type (AMD64 APM vol. 2 §15.7.2), even without the valid bit. QEMU's emulation
// of SVM leaves the type of the guest's last exception there; the next entry
// clears it, so once in a row is no failure.
func (vp *VP) exitInternalError() hcl.Exit {
	reason := vp.u32(kvm.RunInternalSuberror)
	if reason == kvm.INTERNAL_ERROR_DELIVERY_EV && !vp.redelivered {
		vp.redelivered = true
		return hcl.Exit{Kind: hcl.ExitKick}
	}
	return hcl.Exit{Kind: hcl.ExitEmulationFailed, Value: uint64(reason)}
}

// exitPIO reads a port access. String instructions move several units; their
// data lies at an offset that KVM gives, inside the shared area.
func (vp *VP) exitPIO() (hcl.Exit, error) {
	size, count := uint64(vp.run[kvm.RunIOSize]), uint64(vp.u32(kvm.RunIOCount))
	offset := vp.u64(kvm.RunIODataOffset)
	end := offset + size*count
	if offset > uint64(len(vp.run)) || end > uint64(len(vp.run)) || end < offset {
		return hcl.Exit{}, fmt.Errorf("%w: port data at %#x+%d*%d outside of the run area", ErrRun, offset, size, count)
	}
	return hcl.Exit{
		Kind:  hcl.ExitPIO,
		Write: vp.run[kvm.RunIODirection] == kvm.EXIT_IO_OUT,
		Size:  uint8(size),
		Port:  binary.LittleEndian.Uint16(vp.run[kvm.RunIOPort:]),
		Data:  vp.run[offset:end:end],
	}, nil
}

// CompleteMSR answers an MSR exit.
func (vp *VP) CompleteMSR(value uint64, fault bool) {
	vp.run[kvm.RunMSRError] = 0
	if fault {
		vp.run[kvm.RunMSRError] = 1
	}
	binary.LittleEndian.PutUint64(vp.run[kvm.RunMSRData:], value)
}

func (vp *VP) u32(offset int) uint32 { return binary.LittleEndian.Uint32(vp.run[offset:]) }
func (vp *VP) u64(offset int) uint64 { return binary.LittleEndian.Uint64(vp.run[offset:]) }
