package tdx

import (
	"encoding/binary"
	"fmt"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/tdx/l2"
)

// maxSilent bounds how many exits in a row Run handles itself, before it lets the
// caller look around.
const maxSilent = 256

// Run enters the guest. What it returns, by the status of TDG.VP.ENTER and the reason of
// the exit:
//
//	pending interrupt, external interrupt and the like   ExitKick
//	I/O instruction                 ExitPIO; ExitMemoryFault with Port for a string
//	RDMSR, WRMSR                    ExitMSRRead, ExitMSRWrite, but for EFER and XSS
//	HLT                             ExitHalt
//	interrupt window                ExitInterruptWindow
//	TPR below threshold             ExitTPR
//	triple fault                    ExitShutdown
//	EPT violation                   ExitMemoryFault, Value is the exit qualification: the
//	                                address is no RAM, or denied. RAM that was not
//	                                accepted is, and the guest goes on.
//	invalid guest state, and all others that the guest must not cause
//	                                ExitEmulationFailed, Value is the reason
//
// CPUID, XSETBV, loads of CR0, CR4, EFER and XSS, NMI windows, and instructions that no
// guest has are handled here. String port I/O is left to Keel's emulator, like an access
// to a device: nothing of it has been executed.
func (vp *VP) Run() (hcl.Exit, error) {
	vp.complete()
	for range maxSilent {
		epoch := vp.p.ram.Epoch()
		entered, err := vp.enter()
		if err != nil {
			return hcl.Exit{}, err
		}
		if !entered {
			vp.p.stats.add(countNotEntered)
			break
		}
		e, done, err := vp.handle(epoch)
		if err == nil {
			err = vp.failure(ErrRun)
		}
		if err != nil || done {
			e.RIP = vp.state.Registers.RIP
			return e, err
		}
	}
	return hcl.Exit{Kind: hcl.ExitKick, RIP: vp.state.Registers.RIP}, nil
}

// enter runs the VP once. It returns false if the guest was not entered: what is to be
// injected still is.
func (vp *VP) enter() (bool, error) {
	vp.load()
	if err := vp.failure(ErrRun); err != nil {
		return false, err
	}
	if err := vp.state.Encode(vp.page); err != nil {
		return false, fmt.Errorf("%w %d: %w", ErrRun, vp.index, err)
	}
	r := &vp.registers
	vp.running.Lock()
	flags := vp.invalidate
	stale := vp.stale.Swap(false)
	if stale {
		flags = tdx.INVALIDATE_INVEPT
	}
	*r = l2.Registers{RAX: tdx.TDG_VP_ENTER, RCX: guest | flags, RDX: uint64(vp.stateGPA)}
	err := vp.hw.Run(vp.index, r, &vp.context)
	vp.running.Unlock()
	if err != nil {
		return false, fmt.Errorf("%w %d: %w", ErrRun, vp.index, err)
	}
	switch status(r.RAX) {
	case tdx.STATUS_SUCCESS, tdx.STATUS_L2_EXIT_HOST_ROUTED_ASYNC, tdx.STATUS_L2_EXIT_PENDING_INTERRUPT:
	case tdx.STATUS_PENDING_INTERRUPT, tdx.STATUS_TD_EXIT_BEFORE_L2_ENTRY, tdx.STATUS_TD_EXIT_ON_L2_VM_EXIT,
		tdx.STATUS_TD_EXIT_ON_L2_TO_L1:
		vp.invalidate = flags // it was not carried out
		return false, nil
	default:
		return false, fmt.Errorf("%w %d: TDG.VP.ENTER: %w, status %#x", ErrRun, vp.index, errRefused, r.RAX)
	}
	vp.invalidate = tdx.INVALIDATE_NONE
	return true, vp.left()
}

// left takes over what the exit left.
func (vp *VP) left() error {
	if err := vp.state.Decode(vp.page); err != nil {
		return fmt.Errorf("%w %d: %w", ErrRun, vp.index, err)
	}
	o := vp.registers.Outputs()
	vp.exit = o.Exit()
	vp.cs = uint32(o.RSI >> tdx.ENTER_RSI_CS_AR_SHIFT & 0xffff)
	vp.cpl = uint32(o.R12 & tdx.ENTER_R12_CPL_MASK)
	vp.known, vp.blocked = false, false
	if vp.exit.Reason&tdx.EXIT_ENTRY_FAILED == 0 {
		vp.reinject()
	}
	return nil
}

// handle handles one exit; done says that the caller is to see it.
func (vp *VP) handle(epoch uint64) (e hcl.Exit, done bool, err error) {
	x := &vp.exit
	reason := x.Reason & tdx.EXIT_BASIC_MASK
	switch {
	case x.Status == tdx.STATUS_L2_EXIT_PENDING_INTERRUPT:
		return hcl.Exit{Kind: hcl.ExitKick}, true, nil
	case x.Reason&tdx.EXIT_ENTRY_FAILED != 0:
		return vp.refused(), true, nil
	}
	switch reason {
	case tdx.EXIT_EPT_VIOLATION:
		return vp.fault(epoch)
	case tdx.EXIT_NMI_WINDOW: // the next entry brings the NMI
		return hcl.Exit{}, false, nil
	case tdx.EXIT_HLT:
		if !vp.skip() {
			return vp.refused(), true, nil
		}
		return hcl.Exit{Kind: hcl.ExitHalt}, true, nil
	case tdx.EXIT_MSR_READ, tdx.EXIT_MSR_WRITE:
		if vp.ownMSR(reason == tdx.EXIT_MSR_WRITE) {
			return hcl.Exit{}, false, nil
		}
	case tdx.EXIT_CR_ACCESS:
		if vp.accessCR() {
			return hcl.Exit{}, false, nil
		}
		return vp.refused(), true, nil
	}
	e, ok := x.HCLExit(&vp.state.Registers, &vp.data)
	switch {
	case !ok && reason == tdx.EXIT_IO_INSTRUCTION && x.Qualification&tdx.IO_STRING != 0:
		return hcl.Exit{Kind: hcl.ExitMemoryFault, Port: e.Port, Size: e.Size, Write: e.Write}, true, nil
	case !ok:
		if vp.instruction(reason) {
			return hcl.Exit{}, false, nil
		}
		return vp.refused(), true, nil
	}
	switch e.Kind {
	case hcl.ExitPIO, hcl.ExitMSRRead, hcl.ExitMSRWrite:
		if x.Length == 0 {
			return vp.refused(), true, nil
		}
		vp.answer = answer{kind: e.Kind, write: e.Write, size: e.Size, rip: vp.state.Registers.RIP, next: vp.next()}
	default:
	}
	return e, true, nil
}

// refused is the exit for what cannot be handled.
func (vp *VP) refused() hcl.Exit {
	return hcl.Exit{Kind: hcl.ExitEmulationFailed, Value: uint64(vp.exit.Reason)}
}

// fault handles an access that the TD's pages or their attributes did not allow.
func (vp *VP) fault(epoch uint64) (hcl.Exit, bool, error) {
	x := &vp.exit
	if x.Qualification&tdx.EPT_NMI_UNBLOCKED != 0 && x.IDTVectoring&tdx.INTERRUPTION_VALID == 0 {
		// The IRET that met the fault has not been executed (SDM vol. 3, "Information for
		// VM Exits Due to Instruction Execution").
		vp.setInterruptibility(vp.interruptibility() | tdx.INTERRUPTIBILITY_NMI)
	}
	switch ours, err := vp.p.ram.Fault(x.GPA, epoch); {
	case err != nil:
		return hcl.Exit{}, true, fmt.Errorf("%w: status %#x, qualification %#x, extended %d", err, x.Status, x.Qualification, x.Extended)
	case ours:
		return hcl.Exit{}, false, nil
	}
	return hcl.Exit{Kind: hcl.ExitMemoryFault, GPA: x.GPA, Write: x.Qualification&tdx.EPT_WRITE != 0, Value: x.Qualification}, true, nil
}

// complete finishes the port I/O or the access to an MSR of the last exit, unless
// whoever answered it has moved RIP.
func (vp *VP) complete() {
	w := vp.answer
	vp.answer = answer{}
	r := &vp.state.Registers
	switch {
	case w.kind == hcl.ExitKick || r.RIP != w.rip: // no answer, or none that is wanted
		return
	case w.fault:
		vp.raiseGP()
		return
	case w.kind == hcl.ExitPIO && !w.write:
		switch w.size {
		case 1:
			r.RAX = r.RAX&^0xff | uint64(vp.data[0])
		case 2:
			r.RAX = r.RAX&^0xffff | uint64(binary.LittleEndian.Uint16(vp.data[:]))
		default:
			r.RAX = uint64(binary.LittleEndian.Uint32(vp.data[:]))
		}
	case w.kind == hcl.ExitMSRRead:
		r.RAX, r.RDX = w.value&0xffffffff, w.value>>32
	}
	vp.goTo(w.next)
}

// CompleteMSR answers an MSR exit.
func (vp *VP) CompleteMSR(value uint64, fault bool) { vp.answer.value, vp.answer.fault = value, fault }

// next is the address behind the instruction of the exit. Outside of 64-bit mode it has
// 32 bits.
func (vp *VP) next() uint64 {
	next := vp.state.Registers.RIP + uint64(vp.exit.Length)
	if vp.cs&hcl.SegLong == 0 {
		next &= 0xffffffff
	}
	return next
}

// skip goes behind the instruction of the exit, and returns false where that is unknown.
func (vp *VP) skip() bool {
	if vp.exit.Length == 0 {
		return false
	}
	vp.goTo(vp.next())
	return true
}

// goTo goes on with another instruction, which ends a shadow of STI or MOV SS.
func (vp *VP) goTo(rip uint64) {
	vp.state.Registers.RIP = rip
	vp.setInterruptibility(vp.interruptibility() &^ shadow)
}
