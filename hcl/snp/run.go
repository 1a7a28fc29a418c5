package snp

import (
	"encoding/binary"
	"fmt"

	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
	"keel/hcl/sys"
)

// maxSilent bounds how many exits in a row Run handles itself, before it lets the
// caller look around.
const maxSilent = 256

// Run enters the guest. What it returns, by the exit code:
//
//	INTR, NMI, PAUSE and the like   ExitKick
//	IOIO                            ExitPIO; ExitMemoryFault with Port for a string
//	MSR                             ExitMSRRead, ExitMSRWrite, but for those in the VMSA
//	HLT                             ExitHalt
//	VINTR                           ExitInterruptWindow
//	CR8 write trap                  ExitTPR
//	SHUTDOWN                        ExitShutdown
//	NPF                             ExitMemoryFault, Value is EXITINFO1: the address is
//	                                no RAM, or denied. RAM that was not accepted is, and
//	                                the guest goes on.
//	INVALID, and all others that the guest must not cause
//	                                ExitEmulationFailed, Value is the code
//
// CPUID, XSETBV, traps of CR0, CR4 and EFER, and instructions that no guest has are
// handled here. String port I/O is left to Keel's emulator, like an access to a device:
// nothing of it has been executed.
func (vp *VP) Run() (hcl.Exit, error) {
	vp.complete()
	for range maxSilent {
		epoch := vp.p.ram.Epoch()
		if err := vp.enter(); err != nil {
			return hcl.Exit{}, err
		}
		e, done, err := vp.exit(epoch)
		if err != nil || done {
			e.RIP = vp.area.Registers.RIP
			return e, err
		}
	}
	return hcl.Exit{Kind: hcl.ExitKick, RIP: vp.area.Registers.RIP}, nil
}

// enter runs the VP once.
func (vp *VP) enter() error {
	a := &vp.area
	vp.cr0, vp.cr4, vp.efer = a.Special.CR0, a.Special.CR4, a.Special.EFER
	vp.setWindow()
	a.VINTR |= snp.VINTR_BUSY
	if err := a.Encode(vp.page); err != nil {
		return fmt.Errorf("%w %d: %w", ErrRun, vp.index, err)
	}
	// The host may run a VMSA when it likes, but not while it is busy (§15.36.16).
	vp.busy(false)
	err := vp.hw.Run(vp.index)
	vp.busy(true)
	if err != nil {
		return fmt.Errorf("%w %d: %w", ErrRun, vp.index, err)
	}
	if err := a.Decode(vp.page); err != nil {
		return fmt.Errorf("%w %d: %w", ErrRun, vp.index, err)
	}
	switch a.Exit.Code {
	case snp.EXIT_INVALID, snp.EXIT_BUSY, snp.EXIT_IDLE_REQUIRED, snp.EXIT_INVALID_PMC:
		// It was not entered: what is to be injected still is.
	default:
		vp.reinject()
	}
	return nil
}

// busy sets or clears VINTR_CTRL.BUSY, at once.
func (vp *VP) busy(on bool) {
	field := vp.page[snp.VMSA_VINTR_CTRL : snp.VMSA_VINTR_CTRL+8]
	for {
		before := binary.LittleEndian.Uint64(field)
		after := before &^ snp.VINTR_BUSY
		if on {
			after |= snp.VINTR_BUSY
		}
		if sys.CompareAndSwap64(field, before, after) {
			return
		}
	}
}

// exit handles one exit; done says that the caller is to see it.
func (vp *VP) exit(epoch uint64) (e hcl.Exit, done bool, err error) {
	a := &vp.area
	switch code := a.Exit.Code; code {
	case snp.EXIT_NPF, snp.EXIT_PAGE_NOT_VALIDATED:
		return vp.fault(epoch)
	case snp.EXIT_BUSY:
		vp.p.stats.add(countBusy)
	case snp.EXIT_HLT, snp.EXIT_IDLE_HLT:
		if !vp.skip() {
			return vp.failed(), true, nil
		}
	case snp.EXIT_MSR:
		if vp.ownMSR() {
			return hcl.Exit{}, false, nil
		}
	case snp.EXIT_CR0_WRITE_TRAP, snp.EXIT_CR4_WRITE_TRAP, snp.EXIT_EFER_WRITE_TRAP:
		vp.checkControl(code)
		return hcl.Exit{}, false, nil
	}
	e, ok := a.HCLExit(&vp.data)
	switch {
	case !ok && a.Exit.Code == snp.EXIT_IOIO && a.Exit.Info1&snp.IOIO_STRING != 0:
		return hcl.Exit{Kind: hcl.ExitMemoryFault, Port: e.Port, Size: e.Size, Write: e.Write}, true, nil
	case !ok:
		if vp.instruction() {
			return hcl.Exit{}, false, nil
		}
		return vp.failed(), true, nil
	}
	switch e.Kind {
	case hcl.ExitPIO, hcl.ExitMSRRead, hcl.ExitMSRWrite:
		if a.Exit.NRIP == 0 {
			return vp.failed(), true, nil
		}
		vp.answer = answer{kind: e.Kind, write: e.Write, size: e.Size, rip: a.Registers.RIP, next: a.Exit.NRIP}
	default:
	}
	return e, true, nil
}

// failed is the exit for what cannot be handled.
func (vp *VP) failed() hcl.Exit {
	return hcl.Exit{Kind: hcl.ExitEmulationFailed, Value: vp.area.Exit.Code}
}

// fault handles an access that the RMP or the nested page table did not allow.
func (vp *VP) fault(epoch uint64) (hcl.Exit, bool, error) {
	exit := &vp.area.Exit
	gpa := x86.GPA(exit.Info2)
	switch ours, err := vp.p.ram.Fault(gpa, epoch); {
	case err != nil:
		return hcl.Exit{}, true, fmt.Errorf("%w: exit %#x, information %#x", err, exit.Code, exit.Info1)
	case ours:
		return hcl.Exit{}, false, nil
	}
	return hcl.Exit{Kind: hcl.ExitMemoryFault, GPA: gpa, Write: exit.Info1&snp.NPF_W != 0, Value: exit.Info1}, true, nil
}

// complete finishes the port I/O or the access to an MSR of the last exit, unless
// whoever answered it has moved RIP.
func (vp *VP) complete() {
	w := vp.answer
	vp.answer = answer{}
	r := &vp.area.Registers
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

// skip goes behind the instruction of the exit, and returns false where that is unknown.
func (vp *VP) skip() bool {
	if vp.area.Exit.NRIP == 0 {
		return false
	}
	vp.goTo(vp.area.Exit.NRIP)
	return true
}

// goTo goes on with another instruction, which ends a shadow of STI or MOV SS.
func (vp *VP) goTo(rip uint64) {
	vp.area.Registers.RIP = rip
	vp.area.VINTR &^= snp.VINTR_INT_SHADOW
}
