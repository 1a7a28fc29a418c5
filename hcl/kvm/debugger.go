package kvm

import (
	"fmt"

	"keel/hcl"
	"keel/hcl/abi/kvm"
	"keel/hcl/sys"
)

var _ hcl.Debugger = (*VP)(nil)

// Step makes KVM leave the guest after each instruction, or ends that. KVM sets the trap
// flag for it, where RIP is at the time of this call.
func (vp *VP) Step(on bool) error {
	var d kvm.GuestDebug
	if on {
		d.Control = kvm.GUESTDBG_ENABLE | kvm.GUESTDBG_SINGLESTEP
	}
	if _, err := sys.IoctlPtr(vp.fd, kvm.SET_GUEST_DEBUG, &d); err != nil {
		return fmt.Errorf("%w: KVM_SET_GUEST_DEBUG: %w", ErrState, err)
	}
	vp.stepping = on
	return nil
}

// stepOrEnter enters the guest, unless a step ends with the access of the last exit: KVM
// does not report that where the access is a write to MMIO, and goes on.
func (vp *VP) stepOrEnter() (hcl.Exit, error) {
	if vp.stepping && vp.unsettled {
		if vp.settle(); !vp.early {
			return hcl.Exit{Kind: hcl.ExitDebug}, nil
		}
	}
	return vp.enter()
}
