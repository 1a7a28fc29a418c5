package hcl

import "keel/hcl/abi/x86"

// Registers are the general-purpose registers of a VP.
type Registers struct {
	RAX, RBX, RCX, RDX uint64
	RSI, RDI, RSP, RBP uint64
	R8, R9, R10, R11   uint64
	R12, R13, R14, R15 uint64
	RIP, RFLAGS        uint64
}

// Segment is a segment register with its hidden part (AMD64 APM vol. 2 §4.5).
type Segment struct {
	Base     uint64
	Limit    uint32 // in bytes, already scaled by granularity
	Selector uint16
	// Attributes are bits 40–47 (low byte) and 52–55 (bits 12–15) of the
	// descriptor, as in the VMX access-rights format; bit 16 is "unusable".
	Attributes uint32
}

// Table is a descriptor table register.
type Table struct {
	Base  uint64
	Limit uint16
}

// SpecialRegisters are the control and segment registers of a VP.
type SpecialRegisters struct {
	CS, DS, ES, FS, GS, SS Segment
	TR, LDT                Segment
	GDT, IDT               Table
	CR0, CR2, CR3, CR4     uint64
	EFER                   uint64
}

// Segment attributes in the VMX access-rights format (Intel SDM vol. 3 §25.4.1).
const (
	SegTypeMask    = 0xf
	SegNonSystem   = 1 << 4
	SegDPLShift    = 5
	SegPresent     = 1 << 7
	SegAvailable   = 1 << 12
	SegLong        = 1 << 13
	SegDefaultBig  = 1 << 14
	SegGranularity = 1 << 15
	SegUnusable    = 1 << 16
)

// RealModeStart returns the code segment in which an application processor
// begins after a startup IPI with the given vector (Intel SDM vol. 3 §9.4.3).
func RealModeStart(vector uint8) Segment {
	return Segment{
		Base:       uint64(vector) << x86.PageShift,
		Limit:      0xffff,
		Selector:   uint16(vector) << 8,
		Attributes: SegPresent | SegNonSystem | 0xb,
	}
}
