package x86emu

import "keel/hcl"

// State is what an instruction sees of a VP beside memory and vectors.
type State struct {
	GPR         [16]uint64     // RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15
	RIP, RFLAGS uint64         // RIP relative to the base of CS
	Segments    [6]hcl.Segment // ES, CS, SS, DS, FS, GS
	TR          hcl.Segment    // for the I/O permission bitmap

	CR0, CR3, CR4, EFER uint64
	XCR0                uint64 // AVX needs bits 1 and 2
	PKRU                uint32 // used when CR4.PKE is set

	// PhysicalBits is MAXPHYADDR as the guest's CPUID tells it (leaf
	// 80000008h), 32 to 52; anything else counts as 52.
	PhysicalBits uint8
}

// Load takes over registers as a backend gives them. XCR0, PKRU and
// PhysicalBits stay.
func (s *State) Load(r *hcl.Registers, sr *hcl.SpecialRegisters) {
	s.GPR = [16]uint64{
		r.RAX, r.RCX, r.RDX, r.RBX, r.RSP, r.RBP, r.RSI, r.RDI,
		r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15,
	}
	s.RIP, s.RFLAGS = r.RIP, r.RFLAGS
	s.Segments = [6]hcl.Segment{sr.ES, sr.CS, sr.SS, sr.DS, sr.FS, sr.GS}
	s.TR = sr.TR
	s.CR0, s.CR3, s.CR4, s.EFER = sr.CR0, sr.CR3, sr.CR4, sr.EFER
}

// Store gives back what an instruction can change.
func (s *State) Store(r *hcl.Registers) {
	g := &s.GPR
	*r = hcl.Registers{
		RAX: g[0], RCX: g[1], RDX: g[2], RBX: g[3], RSP: g[4], RBP: g[5], RSI: g[6], RDI: g[7],
		R8: g[8], R9: g[9], R10: g[10], R11: g[11], R12: g[12], R13: g[13], R14: g[14], R15: g[15],
		RIP: s.RIP, RFLAGS: s.RFLAGS,
	}
}

// mode is the width that code has by default.
type mode uint8

const (
	mode16 mode = iota
	mode32
	mode64
)

// mode tells how instructions decode (AMD64 APM vol. 2 §1.2). Real mode keeps
// the D bit of a segment that was loaded in protected mode.
func (s *State) mode() mode {
	cs := s.Segments[segCS].Attributes
	switch {
	case s.protected() && s.EFER&eferLMA != 0 && cs&hcl.SegLong != 0:
		return mode64
	case s.CR0&cr0PE != 0 && s.virtual8086():
		return mode16
	case cs&hcl.SegDefaultBig != 0:
		return mode32
	}
	return mode16
}

// virtual8086 tells whether a virtual-8086 task runs.
func (s *State) virtual8086() bool {
	return s.CR0&cr0PE != 0 && s.EFER&eferLMA == 0 && s.RFLAGS&flagVM != 0
}

// protected tells whether descriptors, not selectors, define segments.
func (s *State) protected() bool { return s.CR0&cr0PE != 0 && !s.virtual8086() }

// cpl is the current privilege level, which SS.DPL equals in every mode with
// privileges (AMD64 APM vol. 2 §15.5.1).
func (s *State) cpl() uint8 {
	switch {
	case s.CR0&cr0PE == 0:
		return 0
	case s.virtual8086():
		return 3
	}
	return uint8(s.Segments[segSS].Attributes>>hcl.SegDPLShift) & 3
}

// physicalMask covers the bits of a physical address.
func (s *State) physicalMask() uint64 {
	n := s.PhysicalBits
	if n < 32 || n > 52 {
		n = 52
	}
	return 1<<n - 1
}

// canonical tells whether a linear address is one in 64-bit mode (Intel SDM
// vol. 1 §3.3.7.1).
func (s *State) canonical(linear uint64) bool {
	unused := uint(64 - 48)
	if s.CR4&cr4LA57 != 0 {
		unused = 64 - 57
	}
	return uint64(int64(linear<<unused)>>unused) == linear
}
