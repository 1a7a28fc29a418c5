package l2

import (
	"encoding/binary"

	"keel/hcl"
	"keel/hcl/abi/tdx"
)

// exitKinds says what an exit of VMX is for the layers above. What is missing here a
// backend handles itself: CPUID, control and debug registers, exceptions, VMCALL, TDCALL,
// WBINVD, XSETBV and their like.
var exitKinds = [...]struct {
	reason uint32
	kind   hcl.ExitKind
}{
	{tdx.EXIT_EXTERNAL_INTERRUPT, hcl.ExitKick},
	{tdx.EXIT_INIT, hcl.ExitKick},
	{tdx.EXIT_IO_SMI, hcl.ExitKick},
	{tdx.EXIT_OTHER_SMI, hcl.ExitKick},
	{tdx.EXIT_PAUSE, hcl.ExitKick},
	{tdx.EXIT_PREEMPTION_TIMER, hcl.ExitKick}, // the deadline that L1 has set
	{tdx.EXIT_BUS_LOCK, hcl.ExitKick},
	{tdx.EXIT_NOTIFY, hcl.ExitKick},
	{tdx.EXIT_TRIPLE_FAULT, hcl.ExitShutdown},
	{tdx.EXIT_INTERRUPT_WINDOW, hcl.ExitInterruptWindow},
	{tdx.EXIT_TPR_BELOW_THRESHOLD, hcl.ExitTPR},
	{tdx.EXIT_HLT, hcl.ExitHalt},
	{tdx.EXIT_IO_INSTRUCTION, hcl.ExitPIO},
	{tdx.EXIT_MSR_READ, hcl.ExitMSRRead},
	{tdx.EXIT_MSR_WRITE, hcl.ExitMSRWrite},
	{tdx.EXIT_EPT_VIOLATION, hcl.ExitMemoryFault},
	{tdx.EXIT_INVALID_GUEST_STATE, hcl.ExitEmulationFailed},
}

// exitReasons is the other direction: the exit of VMX that an hcl.Exit stands for.
// ExitMMIO has none: it reports an instruction that has been executed already, and
// hardware reports a fault. Nor has ExitDebug: nobody steps a confidential guest.
var exitReasons = [hcl.ExitKinds]uint32{
	hcl.ExitKick:            tdx.EXIT_EXTERNAL_INTERRUPT,
	hcl.ExitPIO:             tdx.EXIT_IO_INSTRUCTION,
	hcl.ExitMMIO:            0,
	hcl.ExitMSRRead:         tdx.EXIT_MSR_READ,
	hcl.ExitMSRWrite:        tdx.EXIT_MSR_WRITE,
	hcl.ExitHalt:            tdx.EXIT_HLT,
	hcl.ExitInterruptWindow: tdx.EXIT_INTERRUPT_WINDOW,
	hcl.ExitTPR:             tdx.EXIT_TPR_BELOW_THRESHOLD,
	hcl.ExitShutdown:        tdx.EXIT_TRIPLE_FAULT,
	hcl.ExitEmulationFailed: tdx.EXIT_INVALID_GUEST_STATE | tdx.EXIT_ENTRY_FAILED,
	hcl.ExitMemoryFault:     tdx.EXIT_EPT_VIOLATION,
	hcl.ExitDebug:           0,
}

// HCLExit turns an exit into one of package hcl; r are the L2's registers. It returns
// false for an exit that the backend must handle itself, which includes string port I/O:
// hardware has not moved its data. out takes what OUT writes and what the answer to IN
// is read from. ExitMemoryFault carries the exit qualification in Value. VMX leaves RIP
// at the instruction, and so does the result, but for ExitHalt.
func (x *Exit) HCLExit(r *hcl.Registers, out *[4]byte) (hcl.Exit, bool) {
	e := hcl.Exit{RIP: r.RIP}
	if x.Status == tdx.STATUS_L2_EXIT_PENDING_INTERRUPT || x.Status == tdx.STATUS_PENDING_INTERRUPT {
		return e, true // L1's own interrupt: ExitKick
	}
	reason := x.Reason & tdx.EXIT_BASIC_MASK
	if reason == tdx.EXIT_CR_ACCESS && x.Qualification&(tdx.CR_NUMBER_MASK|tdx.CR_TYPE_MASK<<tdx.CR_TYPE_SHIFT) == 8 {
		e.Kind = hcl.ExitTPR // MOV to CR8
		return e, true
	}
	for i := range exitKinds {
		if exitKinds[i].reason == reason {
			e.Kind = exitKinds[i].kind
			return x.describe(e, r, out)
		}
	}
	return e, false
}

func (x *Exit) describe(e hcl.Exit, r *hcl.Registers, out *[4]byte) (hcl.Exit, bool) {
	switch e.Kind {
	case hcl.ExitPIO:
		return x.describePIO(e, r, out)
	case hcl.ExitMSRRead:
		e.MSR = uint32(r.RCX)
	case hcl.ExitMSRWrite:
		e.MSR, e.Value = uint32(r.RCX), r.RDX<<32|r.RAX&0xffffffff
	case hcl.ExitMemoryFault:
		e.GPA, e.Write, e.Value = x.GPA, x.Qualification&tdx.EPT_WRITE != 0, x.Qualification
	case hcl.ExitEmulationFailed:
		e.Value = uint64(x.Reason)
	case hcl.ExitHalt:
		e.RIP += uint64(x.Length)
	default:
	}
	return e, true
}

func (x *Exit) describePIO(e hcl.Exit, r *hcl.Registers, out *[4]byte) (hcl.Exit, bool) {
	q := x.Qualification
	e.Port = uint16(q >> tdx.IO_PORT_SHIFT)
	e.Write = q&tdx.IO_IN == 0
	e.Size = uint8(q&tdx.IO_SIZE_MASK) + 1
	if q&tdx.IO_STRING != 0 || e.Size != 1 && e.Size != 2 && e.Size != 4 {
		return e, false
	}
	binary.LittleEndian.PutUint32(out[:], 0)
	if e.Write {
		binary.LittleEndian.PutUint32(out[:], uint32(r.RAX))
	}
	e.Data = out[:e.Size]
	return e, true
}

// FromHCL is the exit of VMX for one of package hcl, with the length of the instruction
// in bytes, or 0. It returns false for ExitMMIO and ExitDebug. ExitMemoryFault brings the exit
// qualification in Value. Preconditions: the L2's RIP is, or is going to be, at the
// instruction, also for ExitHalt.
func FromHCL(e *hcl.Exit, length uint32) (Exit, bool) {
	if e.Kind >= hcl.ExitKinds || e.Kind == hcl.ExitMMIO || e.Kind == hcl.ExitDebug {
		return Exit{}, false
	}
	x := Exit{Reason: exitReasons[e.Kind]}
	switch e.Kind {
	case hcl.ExitKick:
		x.Status = tdx.STATUS_L2_EXIT_PENDING_INTERRUPT
	case hcl.ExitPIO:
		x.Qualification, x.Length = ioQualification(e), length
	case hcl.ExitMSRRead, hcl.ExitMSRWrite, hcl.ExitHalt:
		x.Length = length
	case hcl.ExitMemoryFault:
		x.Qualification, x.GPA = e.Value, e.GPA
	default:
	}
	return x, true
}

// ioQualification: a string instruction is known by moving more than one unit.
func ioQualification(e *hcl.Exit) uint64 {
	q := uint64(e.Port)<<tdx.IO_PORT_SHIFT | (uint64(e.Size)-1)&tdx.IO_SIZE_MASK
	if !e.Write {
		q |= tdx.IO_IN
	}
	if len(e.Data) > int(e.Size) {
		q |= tdx.IO_STRING | tdx.IO_REP
	}
	return q
}
