package vmsa

import (
	"encoding/binary"

	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// exitKinds says what an exit of SVM is for the layers above. What is missing
// here a backend handles itself: CPUID, control registers, exceptions, WBINVD
// and their like, VMGEXIT.
var exitKinds = [...]struct {
	code uint64
	kind hcl.ExitKind
}{
	{snp.EXIT_INTR, hcl.ExitKick},
	{snp.EXIT_NMI, hcl.ExitKick},
	{snp.EXIT_SMI, hcl.ExitKick},
	{snp.EXIT_INIT, hcl.ExitKick},
	{snp.EXIT_PAUSE, hcl.ExitKick},
	{snp.EXIT_BUSY, hcl.ExitKick}, // the paravisor was writing the VMSA: enter again
	{snp.EXIT_IDLE_REQUIRED, hcl.ExitKick},
	{snp.EXIT_VINTR, hcl.ExitInterruptWindow},
	{snp.EXIT_WRITE_CR0 + 8, hcl.ExitTPR},
	{snp.EXIT_CR8_WRITE_TRAP, hcl.ExitTPR},
	{snp.EXIT_HLT, hcl.ExitHalt},
	{snp.EXIT_IDLE_HLT, hcl.ExitHalt},
	{snp.EXIT_IOIO, hcl.ExitPIO},
	{snp.EXIT_MSR, hcl.ExitMSRRead}, // or ExitMSRWrite: EXITINFO1 tells
	{snp.EXIT_SHUTDOWN, hcl.ExitShutdown},
	{snp.EXIT_NPF, hcl.ExitMemoryFault},
	{snp.EXIT_INVALID, hcl.ExitEmulationFailed},
	{snp.EXIT_INVALID_PMC, hcl.ExitEmulationFailed},
}

// exitCodes is the other direction: the exit of SVM that an hcl.Exit stands for.
// ExitMMIO has none: it reports an instruction that has been executed already,
// and hardware reports a fault. Nor has ExitDebug: nobody steps a confidential guest.
var exitCodes = [hcl.ExitKinds]uint64{
	hcl.ExitKick:            snp.EXIT_INTR,
	hcl.ExitPIO:             snp.EXIT_IOIO,
	hcl.ExitMMIO:            0,
	hcl.ExitMSRRead:         snp.EXIT_MSR,
	hcl.ExitMSRWrite:        snp.EXIT_MSR,
	hcl.ExitHalt:            snp.EXIT_HLT,
	hcl.ExitInterruptWindow: snp.EXIT_VINTR,
	hcl.ExitTPR:             snp.EXIT_CR8_WRITE_TRAP,
	hcl.ExitShutdown:        snp.EXIT_SHUTDOWN,
	hcl.ExitEmulationFailed: snp.EXIT_INVALID,
	hcl.ExitMemoryFault:     snp.EXIT_NPF,
	hcl.ExitDebug:           0,
}

// HCLExit turns the exit in a save area into one of package hcl. It returns false
// for an exit that the backend must handle itself, which includes string port
// I/O: hardware has not moved its data. out takes what OUT writes and what the
// answer to IN is read from. ExitMemoryFault carries EXITINFO1 in Value.
func (s *SaveArea) HCLExit(out *[4]byte) (hcl.Exit, bool) {
	for i := range exitKinds {
		if exitKinds[i].code == s.Exit.Code {
			return s.describe(exitKinds[i].kind, out)
		}
	}
	return hcl.Exit{RIP: s.Registers.RIP}, false
}

func (s *SaveArea) describe(kind hcl.ExitKind, out *[4]byte) (hcl.Exit, bool) {
	e := hcl.Exit{Kind: kind, RIP: s.Registers.RIP}
	switch kind {
	case hcl.ExitPIO:
		return s.describePIO(e, out)
	case hcl.ExitMSRRead:
		e.MSR = uint32(s.Registers.RCX)
		if s.Exit.Info1 == snp.MSR_WRITE {
			e.Kind = hcl.ExitMSRWrite
			e.Value = s.Registers.RDX<<32 | s.Registers.RAX&0xffffffff
		}
	case hcl.ExitMemoryFault:
		e.GPA, e.Write, e.Value = x86.GPA(s.Exit.Info2), s.Exit.Info1&snp.NPF_W != 0, s.Exit.Info1
	case hcl.ExitEmulationFailed:
		e.Value = s.Exit.Code
	default:
	}
	return e, true
}

func (s *SaveArea) describePIO(e hcl.Exit, out *[4]byte) (hcl.Exit, bool) {
	info := s.Exit.Info1
	e.Port = uint16(info >> snp.IOIO_PORT_SHIFT)
	e.Write = info&snp.IOIO_IN == 0
	e.Size = uint8(info & snp.IOIO_SIZE_MASK >> snp.IOIO_SIZE_SHIFT)
	if info&snp.IOIO_STRING != 0 || e.Size != 1 && e.Size != 2 && e.Size != 4 {
		return e, false
	}
	binary.LittleEndian.PutUint32(out[:], 0)
	if e.Write {
		binary.LittleEndian.PutUint32(out[:], uint32(s.Registers.RAX))
	}
	e.Data = out[:e.Size]
	return e, true
}

// SetExit stores an exit of package hcl as hardware stores it, with nrip the
// address of the following instruction, or 0. It returns false for ExitMMIO and ExitDebug.
// ExitMemoryFault brings EXITINFO1 in Value; ExitTPR takes the task priority from
// VINTR.
// Preconditions: the registers are those of the exit.
func (s *SaveArea) SetExit(e *hcl.Exit, nrip uint64) bool {
	if e.Kind >= hcl.ExitKinds || e.Kind == hcl.ExitMMIO || e.Kind == hcl.ExitDebug {
		return false
	}
	s.Exit = ExitInfo{Code: exitCodes[e.Kind], NRIP: nrip}
	switch e.Kind {
	case hcl.ExitPIO:
		s.Exit.Info1, s.Exit.Info2 = s.ioInfo(e), nrip
	case hcl.ExitMSRWrite:
		s.Exit.Info1 = snp.MSR_WRITE
	case hcl.ExitTPR:
		s.Exit.Info1 = s.VINTR & 0xf
	case hcl.ExitMemoryFault:
		s.Exit.Info1, s.Exit.Info2 = e.Value, uint64(e.GPA)
	default:
	}
	return true
}

// MMIOFault is EXITINFO1 of an access where there is no memory: the host marks
// such addresses with a reserved bit, so that the fault is the guest's to handle
// (§15.35.4).
func MMIOFault(write bool) uint64 {
	if write {
		return snp.NPF_P | snp.NPF_US | snp.NPF_RSV | snp.NPF_FINAL | snp.NPF_W
	}
	return snp.NPF_P | snp.NPF_US | snp.NPF_RSV | snp.NPF_FINAL
}

// ioInfo is EXITINFO1 of port I/O (§15.10.2). A string instruction is known by
// moving more than one unit, its address size by the mode.
func (s *SaveArea) ioInfo(e *hcl.Exit) uint64 {
	info := uint64(e.Port)<<snp.IOIO_PORT_SHIFT | uint64(e.Size)<<snp.IOIO_SIZE_SHIFT&snp.IOIO_SIZE_MASK
	if !e.Write {
		info |= snp.IOIO_IN
	}
	if len(e.Data) > int(e.Size) {
		info |= snp.IOIO_STRING | snp.IOIO_REP
	}
	switch cs := s.Special.CS.Attributes; {
	case s.long() && cs&hcl.SegLong != 0:
		info |= snp.IOIO_ADDR64
	case cs&hcl.SegDefaultBig != 0:
		info |= snp.IOIO_ADDR32
	default:
		info |= snp.IOIO_ADDR16
	}
	return info | snp.IOIO_SEG_DS
}
