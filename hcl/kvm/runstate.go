package kvm

import (
	"keel/hcl"
	"keel/hcl/abi/kvm"
	"keel/hcl/abi/x86"
)

var _ hcl.StateRunner = (*VP)(nil)

// Registers travel through the run page, without further system calls (struct
// kvm_sync_regs in <asm/kvm.h>; Documentation/virt/kvm/api.rst, KVM_CAP_SYNC_REGS).
// The page holds what KVM had at the end of the last run; what is changed there is
// taken over where dirty says so.
const (
	syncAll = kvm.SYNC_X86_REGS | syncSRegs | syncEvents

	syncSRegs  = 1 << 1
	syncEvents = 1 << 2

	runDirtyRegs = kvm.RunValidRegs + 8
)

// maxSettle bounds the accesses of one instruction.
const maxSettle = 32

// RunState enters the guest with a state.
func (vp *VP) RunState(s *hcl.State) (hcl.Exit, error) {
	if s.Whole {
		if err := vp.forget(s); err != nil {
			return hcl.Exit{}, err
		}
	}
	if vp.unsettled {
		vp.finishLeft(s)
	}
	dirty := vp.loadState(s)
	if whole := s.Whole || vp.u64(kvm.RunValidRegs) != syncAll; whole {
		dirty = syncAll
	}
	vp.put(kvm.RunValidRegs, syncAll)
	vp.put(runDirtyRegs, dirty)
	vp.SetCR8(s.CR8)
	vp.RequestInterruptWindow(s.Window)
	e, err := vp.enter()
	vp.put(runDirtyRegs, 0)
	vp.storeState(s)
	s.Whole = false
	e.RIP = s.Registers.RIP
	if err == nil && vp.unsettled && !vp.leave(s, &e) {
		vp.undo(s, &e)
	}
	return e, err
}

// leave leaves it to the next RunState to let KVM finish the port access of the exit,
// where it is known where the instruction ends. It returns false where KVM has to be
// asked.
func (vp *VP) leave(s *hcl.State, e *hcl.Exit) bool {
	if e.Kind != hcl.ExitPIO || len(e.Data) != int(e.Size) || vp.length == nil || vp.stepping || s.Registers.RFLAGS&x86.RFLAGS_TF != 0 {
		return false
	}
	rip := s.Registers.RIP
	n, ok := vp.length(s)
	if next := rip + uint64(n); !ok || next>>16 != rip>>16 { // IP may wrap
		return false
	}
	s.Next = rip + uint64(n)
	vp.left = rip
	return true
}

// finishLeft lets KVM finish the port access that was left to it, before it gets the state
// that comes. Where RIP is another one there, it need not: KVM finishes no port access
// whose instruction the guest has left (kvm_fast_pio of Linux).
func (vp *VP) finishLeft(s *hcl.State) {
	if s.Registers.RIP == vp.left {
		vp.finish()
	}
}

// undo lets KVM finish the access of the exit, to learn where the instruction ends. The
// next RunState replaces what that did to the registers.
func (vp *VP) undo(s *hcl.State, e *hcl.Exit) {
	if e.Kind == hcl.ExitMSRRead || e.Kind == hcl.ExitMSRWrite {
		vp.CompleteMSR(0, false)
	}
	if e.Kind == hcl.ExitPIO && !e.Write {
		clear(e.Data)
	}
	vp.finish()
	s.Next = vp.u64(kvm.RunSyncRIP)
	// A string instruction moves its index. The write that KVM has done has moved RIP.
	if e.Kind == hcl.ExitPIO && (vp.u64(syncRDI) != s.Registers.RDI || len(e.Data) != int(e.Size)) {
		s.Next = s.Registers.RIP
	}
}

// finish lets KVM finish an access. That may lead to further exits of the same
// instruction, which go the same way.
func (vp *VP) finish() {
	for range maxSettle {
		vp.settle()
		if !vp.early {
			break
		}
		// Another exit, which nobody is to see.
		vp.early = false
		if vp.errno == 0 {
			switch vp.u32(kvm.RunExitReason) {
			case kvm.EXIT_IO, kvm.EXIT_MMIO, kvm.EXIT_X86_RDMSR, kvm.EXIT_X86_WRMSR:
				vp.unsettled = true
			}
		}
		if !vp.unsettled {
			break
		}
	}
	vp.unsettled = false
}

// forget makes KVM drop the guest's translations, as a change of CR4.PGE does (AMD64
// APM vol. 2 §5.5.2).
func (vp *VP) forget(s *hcl.State) error {
	vp.settle()
	vp.early, vp.unsettled = false, false
	other := s.Special
	other.CR4 ^= cr4PGE
	return vp.SetSpecialRegisters(&other)
}

const cr4PGE = 1 << 7
