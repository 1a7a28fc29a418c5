package x86emu

import "keel/hcl/abi/x86"

// Kind says what lies at a guest physical address.
type Kind uint8

// The kinds of memory.
const (
	KindRefused Kind = iota // nothing that the guest may touch
	KindRAM
	KindDevice
)

// Memory is the guest's physical address space as the emulator sees it. No
// access crosses a page. Slices belong to the emulator: they are valid during
// the call only.
type Memory interface {
	// Kind tells what n bytes are, and with write set whether they may be
	// written. It is asked for every part of every operand before anything is
	// read or written.
	Kind(gpa x86.GPA, n int, write bool) Kind

	// ReadRAM and WriteRAM copy. False means that the range stopped being
	// guest RAM.
	ReadRAM(gpa x86.GPA, p []byte) bool
	WriteRAM(gpa x86.GPA, p []byte) bool

	// CompareAndSwap replaces the little-endian quadword at gpa, a multiple of
	// eight, atomically with respect to all VPs.
	CompareAndSwap(gpa x86.GPA, before, after uint64) (swapped, ok bool)

	// CompareAndSwap16 does so with 16 bytes, low quadword first. A machine
	// without the means answers ok false, and the instruction is unsupported.
	CompareAndSwap16(gpa x86.GPA, before, after [2]uint64) (swapped, ok bool)

	// ReadMMIO and WriteMMIO access device memory with 1 to 8 bytes.
	ReadMMIO(gpa x86.GPA, p []byte)
	WriteMMIO(gpa x86.GPA, p []byte)
}

// Ports is the I/O space. Size is 1, 2 or 4 bytes.
type Ports interface {
	ReadPIO(port uint16, size int) uint32
	WritePIO(port uint16, size int, value uint32)
}

// Vectors gives access to XMM and YMM registers, 0 to 15, when an instruction
// needs them.
type Vectors interface {
	// ReadVector copies a YMM register.
	ReadVector(n int, v *[32]byte)
	// WriteVector changes an XMM register and keeps the bits above it; with
	// vex set it changes the YMM register and clears all bits above that.
	WriteVector(n int, v *[32]byte, vex bool)
}
