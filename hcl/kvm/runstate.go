package kvm

import (
	"keel/hcl"
	"keel/hcl/abi/kvm"
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
	// What KVM has yet to finish, it would finish in the new state.
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
	if err != nil || !vp.unsettled {
		return e, err
	}
	return e, vp.undo(s, &e)
}

// undo lets KVM finish the access of the exit, to learn where the instruction ends. The
// next RunState replaces what that did to the registers. Finishing may lead to further
// exits of the same instruction, which go the same way.
func (vp *VP) undo(s *hcl.State, e *hcl.Exit) error {
	if e.Kind == hcl.ExitMSRRead || e.Kind == hcl.ExitMSRWrite {
		vp.CompleteMSR(0, false)
	}
	if e.Kind == hcl.ExitPIO && !e.Write {
		clear(e.Data)
	}
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
	s.Next = vp.u64(kvm.RunSyncRIP)
	// A string instruction moves its index. The write that KVM has done has moved RIP.
	if e.Kind == hcl.ExitPIO && (vp.u64(syncRDI) != s.Registers.RDI || len(e.Data) != int(e.Size)) {
		s.Next = s.Registers.RIP
	}
	return nil
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
