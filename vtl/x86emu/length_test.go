package x86emu

import (
	"testing"

	"keel/hcl"
	"keel/hcl/abi/x86"
)

// TestAccessLength: what an access to a port is followed by.
func TestAccessLength(t *testing.T) {
	long := hcl.Segment{Attributes: hcl.SegLong}
	for _, tt := range []struct {
		name string
		code []byte
		long bool
		want int
	}{
		{"in al,dx", []byte{0xEC}, true, 1},
		{"in eax,dx", []byte{0xED}, false, 1},
		{"in ax,dx", []byte{0x66, 0xED}, true, 2},
		{"out dx,al", []byte{0xEE}, true, 1},
		{"out dx,eax", []byte{0xEF}, false, 1},
		{"in al,imm", []byte{0xE4, 0x70}, false, 2},
		{"out imm,eax", []byte{0xE7, 0x80}, true, 2},
		{"rdmsr", []byte{0x0F, 0x32}, true, 0},
		{"every prefix", []byte{0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF2, 0xF3, 0x48, 0xE6, 0x30}, true, 13},
		{"15 bytes", []byte{0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0xE4, 1}, true, 15},
		{"16 bytes", []byte{0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0xE4, 1}, true, 0},
		{"prefixes alone", []byte{0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66}, true, 0},
		{"REX", []byte{0x48, 0xEC}, true, 2},
		{"dec eax", []byte{0x48, 0xEC}, false, 0},
		{"lock", []byte{0xF0, 0xEC}, true, 0},
		{"insb", []byte{0x6C}, true, 0},
		{"rep outsd", []byte{0xF3, 0x6F}, true, 0},
		{"rdtsc", []byte{0x0F, 0x31}, true, 0},
		{"hlt", []byte{0xF4}, true, 0},
	} {
		for _, at := range []uint64{0x1000, 0x1FFF, 0x2000 - uint64(len(tt.code))} { // also over two pages, and at the end of one
			code := make([]byte, 0x3000)
			for i := range code {
				code[i] = 0xF4
			}
			copy(code[at:], tt.code)
			s := hcl.State{}
			s.Registers.RIP = at
			s.Special.CS.Limit = 0xFFFFFFFF
			if tt.long {
				s.Special.CR0, s.Special.EFER, s.Special.CS = cr0PE, eferLMA, long // paging would be on: it is not what is tested
			}
			length := NewAccessLength(func(gpa x86.GPA, b []byte) bool {
				return int(gpa)+len(b) <= len(code) && copy(b, code[gpa:]) == len(b)
			})
			if n, ok := length(&s); n != tt.want || ok != (tt.want > 0) {
				t.Errorf("%s at %#x: %d, %v, want %d", tt.name, at, n, ok, tt.want)
			}
		}
	}
}

// TestAccessLengthUnread: nothing is said of what cannot be read, or reaches beyond the
// code segment.
func TestAccessLengthUnread(t *testing.T) {
	s := hcl.State{}
	s.Registers.RIP = 0x1000
	s.Special.CS.Limit = 0xFFFF
	if n, ok := NewAccessLength(func(x86.GPA, []byte) bool { return false })(&s); ok {
		t.Errorf("no memory: %d", n)
	}
	s.Registers.RIP = 0xFFFF
	cut := NewAccessLength(func(_ x86.GPA, b []byte) bool { b[0] = 0xE4; return true })
	if n, ok := cut(&s); ok {
		t.Errorf("cut off by the limit: %d", n)
	}
}

// TestAccessLengthDoesNotAllocate: it is on the exit path.
func TestAccessLengthDoesNotAllocate(t *testing.T) {
	s := hcl.State{}
	s.Special.CS.Limit = 0xFFFF
	length := NewAccessLength(func(_ x86.GPA, b []byte) bool { b[0] = 0xEC; return true })
	if n := testing.AllocsPerRun(100, func() { length(&s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzAccessLength(f *testing.F) {
	f.Add([]byte{0x66, 0xE4, 0x32}, true)
	f.Add([]byte{0xE4, 0x70}, false)
	f.Fuzz(func(t *testing.T, code []byte, long bool) {
		if n, short := lengthOfAccess(code, long); n < 0 || n > len(code) || short && n > 0 {
			t.Errorf("% x: %d, %v", code, n, short)
		}
	})
}
