package x86emu

import (
	"slices"
	"testing"

	"keel/hcl/abi/x86"
)

// look reads RAM from outside.
func (m *machine) look(gpa x86.GPA, p []byte) bool {
	if gpa > x86.GPA(len(m.ram)-len(p)) {
		return false
	}
	copy(p, m.ram[gpa:])
	return true
}

// TestTranslate finds the mapping of every format, and nothing beside it, alone and among
// all that is mapped.
func TestTranslate(t *testing.T) {
	for i := range formats {
		f := &formats[i]
		t.Run(f.name, func(t *testing.T) {
			m, s := f.build(false, entryPresent)
			size := uint64(1) << f.shifts[f.leaf-1]
			want := Mapping{f.linear &^ (size - 1), x86.GPA(f.page), size}
			for _, linear := range []uint64{f.linear, want.Linear, want.Linear + size - 1} {
				if got, user, ok := Translate(s, m.look, linear); !ok || user || got != want {
					t.Errorf("%#x is in %+v, %v, %v; want %+v", linear, got, user, ok, want)
				}
			}
			for _, linear := range []uint64{want.Linear - 1, want.Linear + size, 0} {
				if got, _, ok := Translate(s, m.look, linear); ok {
					t.Errorf("%#x is in %+v", linear, got)
				}
			}
			if got := mappings(m, s, 0, ^uint64(0)); !slices.Equal(got, []Mapping{want}) {
				t.Errorf("mapped is %+v, want %+v", got, want)
			}
			if got := mappings(m, s, want.Linear+size, ^uint64(0)); len(got) != 0 {
				t.Errorf("behind it %+v is mapped", got)
			}
			m, s = f.build(false, allRights)
			if _, user, ok := Translate(s, m.look, f.linear); !ok || !user {
				t.Errorf("what is everybody's: %v, %v", user, ok)
			}
			putInt(m.ram[f.entryAt(f.leaf):][:f.size], 0)
			if got, _, ok := Translate(s, m.look, f.linear); ok {
				t.Errorf("what is not present is in %+v", got)
			}
		})
	}
}

func mappings(m *machine, s *State, first, last uint64) (out []Mapping) {
	Mappings(s, m.look, first, last, func(x Mapping) bool {
		out = append(out, x)
		return true
	})
	return out
}

func TestTranslateWithoutPaging(t *testing.T) {
	m := &machine{}
	s := newState(m, mode32)
	s.CR0 &^= cr0PG
	if got, _, ok := Translate(s, m.look, 0x12345); !ok || got != (Mapping{0x12000, 0x12000, x86.PageSize}) {
		t.Errorf("%+v, %v", got, ok)
	}
	if got := mappings(m, s, 0, ^uint64(0)); got != nil {
		t.Errorf("%+v", got)
	}
}

// TestMappingsJoins takes neighbours together, and looks at a table once.
func TestMappingsJoins(t *testing.T) {
	f := &formats[4] // 4-level 4K
	m, s := f.build(false, entryPresent)
	first := f.entryAt(1)
	for i := range 4 {
		page := uint64(dataAt + i*x86.PageSize)
		if i == 3 {
			page = dataAt
		}
		putInt(m.ram[first+8*i:][:8], page|entryPresent)
	}
	// The same table of pages 2 MiB further, and every table in itself.
	for level := 2; level <= 4; level++ {
		at := f.entryAt(level)
		copy(m.ram[at+8:at+16], m.ram[at:at+8])
		putInt(m.ram[at+16:][:8], uint64(tablesAt+4*0x1000)|entryPresent)
	}
	base := f.linear &^ (x86.PageSize - 1)
	want := []Mapping{{base, dataAt, 3 * x86.PageSize}, {base + 3*x86.PageSize, dataAt, x86.PageSize}}
	if got := mappings(m, s, 0, ^uint64(0)); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	n := 0
	Mappings(s, m.look, 0, ^uint64(0), func(Mapping) bool { n++; return false })
	if n != 1 {
		t.Errorf("%d runs after the first was enough", n)
	}
}

// FuzzMappings walks tables that a guest has filled with anything.
func FuzzMappings(f *testing.F) {
	f.Add([]byte{1, 0x10, 0x20}, uint64(cr4PAE), uint64(eferLMA|eferNXE), uint64(0x1000))
	f.Add([]byte{0xe7, 0x83}, uint64(0), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, pattern []byte, cr4, efer, cr3 uint64) {
		if len(pattern) == 0 {
			return
		}
		m := &machine{}
		for i := range m.ram {
			m.ram[i] = pattern[i%len(pattern)]
		}
		s := newState(m, mode64)
		s.CR0, s.CR3, s.CR4, s.EFER = s.CR0|cr0PG, cr3, cr4, efer
		var last uint64
		n := 0
		Mappings(s, m.look, 0, ^uint64(0), func(x Mapping) bool {
			if x.Size == 0 || n > 0 && x.Linear < last {
				t.Fatalf("%+v behind %#x", x, last)
			}
			last = x.Linear
			if got, _, ok := Translate(s, m.look, x.Linear); !ok || got.GPA+x86.GPA(x.Linear-got.Linear) != x.GPA {
				t.Fatalf("%+v translates to %+v, %v", x, got, ok)
			}
			n++
			return n < 1000
		})
	})
}
