package x86emu

import (
	"keel/hcl"
	"keel/hcl/abi/x86"
)

// NewAccessLength returns a function that knows IN and OUT. read copies from the guest's
// RAM, and returns false where there is none. The function is for one VP: it holds what it
// needs, takes no lock and allocates nothing.
func NewAccessLength(read func(gpa x86.GPA, b []byte) bool) hcl.AccessLength {
	e := New(readOnly{read}, nil, nil)
	var s State
	return func(h *hcl.State) (int, bool) {
		s.Load(&h.Registers, &h.Special)
		return e.accessLength(&s)
	}
}

func (e *Emulator) accessLength(s *State) (int, bool) {
	e.s = s
	defer func() { e.s = nil }()
	e.res, e.nmark = Result{}, 0
	in := &e.in
	in.have = 0
	m := s.mode()
	for range 2 {
		limited, ok := e.fetchPage(m)
		if !ok {
			return 0, false
		}
		n, short := lengthOfAccess(in.code[:in.have], m == mode64)
		switch {
		case !short:
			return n, n > 0
		case limited:
			return 0, false
		}
	}
	return 0, false
}

// lengthOfAccess returns the length of the instruction, 0 where it is another one; short
// says that there are too few bytes to tell (Intel SDM vol. 2 §2.1, IN, OUT).
func lengthOfAccess(code []byte, long bool) (n int, short bool) {
	for i, b := range code {
		switch {
		case b == 0x66, b == 0x67, b == 0xF2, b == 0xF3, b&0xE7 == 0x26, b == 0x64, b == 0x65, long && b&0xF0 == 0x40:
			continue // a prefix
		case b >= 0xEC && b <= 0xEF:
			return i + 1, false
		case b >= 0xE4 && b <= 0xE7 && i+2 > len(code):
			return 0, true
		case b >= 0xE4 && b <= 0xE7:
			return i + 2, false
		}
		return 0, false
	}
	return 0, len(code) < maxLength
}

// readOnly is memory of which instructions are fetched, and nothing else.
type readOnly struct {
	read func(gpa x86.GPA, b []byte) bool
}

var _ Memory = readOnly{}

func (readOnly) Kind(x86.GPA, int, bool) Kind                             { return KindRAM }
func (m readOnly) ReadRAM(gpa x86.GPA, b []byte) bool                     { return m.read(gpa, b) }
func (readOnly) WriteRAM(x86.GPA, []byte) bool                            { return false }
func (readOnly) ReadMMIO(x86.GPA, []byte)                                 {}
func (readOnly) WriteMMIO(x86.GPA, []byte)                                {}
func (readOnly) CompareAndSwap(_ x86.GPA, _, _ uint64) (swapped, ok bool) { return false, false }
func (readOnly) CompareAndSwap16(x86.GPA, [2]uint64, [2]uint64) (swapped, ok bool) {
	return false, false
}
