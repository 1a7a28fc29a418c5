package x86emu

import (
	"fmt"
	"testing"
)

// format is a paging mode with one mapping: the linear address in pages of
// every size that it has.
type format struct {
	name   string
	width  mode
	cr4    uint64
	efer   uint64
	levels int
	size   int
	shifts [5]int // of level 1 on
	leaf   int    // level of the mapping
	linear uint64
	page   uint64 // what the leaf maps
}

var formats = []format{
	{"32-bit 4K", mode32, 0, 0, 2, 4, [5]int{12, 22}, 1, 0x80403123, dataAt},
	{"32-bit 4M", mode32, cr4PSE, 0, 2, 4, [5]int{12, 22}, 2, 0x80405123, 0},
	{"PAE 4K", mode32, cr4PAE, eferNXE, 3, 8, [5]int{12, 21, 30}, 1, 0xC0603123, dataAt},
	{"PAE 2M", mode32, cr4PAE, eferNXE, 3, 8, [5]int{12, 21, 30}, 2, 0xC0605123, 0},
	{"4-level 4K", mode64, cr4PAE, eferLMA | eferNXE, 4, 8, [5]int{12, 21, 30, 39}, 1, 0xFFFFC90000003123, dataAt},
	{"4-level 2M", mode64, cr4PAE, eferLMA | eferNXE, 4, 8, [5]int{12, 21, 30, 39}, 2, 0xFFFFC90000005123, 0},
	{"4-level 1G", mode64, cr4PAE, eferLMA | eferNXE, 4, 8, [5]int{12, 21, 30, 39}, 3, 0xFFFFC90000005123, 0},
	{"5-level 4K", mode64, cr4PAE | cr4LA57, eferLMA | eferNXE, 5, 8, [5]int{12, 21, 30, 39, 48}, 1, 0xFF11000000003123, dataAt},
	{"5-level 2M", mode64, cr4PAE | cr4LA57, eferLMA | eferNXE, 5, 8, [5]int{12, 21, 30, 39, 48}, 2, 0xFF11000000005123, 0},
}

// entryAt returns where the entry of a level is.
func (f *format) entryAt(level int) int {
	bits := 9
	if f.size == 4 {
		bits = 10
	}
	index := f.linear >> f.shifts[level-1] & (1<<bits - 1)
	if f.size == 8 && f.levels == 3 && level == 3 {
		index &= 3
	}
	return tablesAt + level*0x1000 + int(index)*f.size
}

// build makes the mapping with the given rights in all levels, for an access
// like "mov eax,[rbx]" when write is false.
func (f *format) build(write bool, rights uint64) (*machine, *State) {
	m := &machine{}
	s := newState(m, f.width)
	clear(m.ram[tablesAt:])
	s.CR0 |= cr0PG | cr0WP
	s.CR4 = s.CR4&^(cr4PAE|cr4LA57) | f.cr4
	s.EFER = f.efer
	s.CR3 = uint64(tablesAt + f.levels*0x1000)
	for level := f.levels; level >= f.leaf; level-- {
		e := uint64(tablesAt+(level-1)*0x1000) | rights
		if level == f.leaf {
			e = f.page | rights
			if level > 1 {
				e |= entryLarge
			}
		}
		if f.pdpte(level) {
			e = e&^(entryWrite|entryUser|entryLarge|entryNX) | entryPresent
		}
		putInt(m.ram[f.entryAt(level):][:f.size], e)
	}
	s.GPR[3] = f.linear
	code := byte(0x8B)
	if write {
		code = 0x89
	}
	copy(m.ram[codeAt:], []byte{code, 0x03})
	putInt(m.ram[dataAt+0x123:][:4], 0x11223344)
	return m, s
}

// pdpte tells whether a level is the top one of PAE.
func (f *format) pdpte(level int) bool { return f.size == 8 && f.levels == 3 && level == 3 }

// step runs the data access. The code is fetched without paging, through a
// second emulator state: only the walk of the operand is under test.
func (f *format) step(m *machine, s *State) Result {
	e := New(m, m, m)
	e.s, e.in.mode = s, f.width
	e.in.have = 2
	copy(e.in.code[:], m.ram[codeAt:codeAt+2])
	e.in.decode(f.width)
	e.execute()
	return e.res
}

const allRights = entryPresent | entryWrite | entryUser

func TestPagingFormats(t *testing.T) {
	for i := range formats {
		f := &formats[i]
		t.Run(f.name, func(t *testing.T) {
			m, s := f.build(true, entryPresent|entryWrite)
			s.GPR[0] = 0xCAFE
			if r := f.step(m, s); r.Outcome != Done || getInt(m.ram[dataAt+0x123:][:4]) != 0xCAFE {
				t.Fatalf("write: %+v", r)
			}
			for level := f.leaf; level <= f.levels; level++ {
				want := uint64(entryAccessed)
				if level == f.leaf {
					want |= entryDirty
				}
				if f.pdpte(level) {
					want = 0
				}
				if e := getInt(m.ram[f.entryAt(level):][:f.size]); e&(entryAccessed|entryDirty) != want {
					t.Errorf("level %d: entry %#x after a write", level, e)
				}
			}
			m, s = f.build(false, entryPresent)
			if r := f.step(m, s); r.Outcome != Done || s.GPR[0] != 0x11223344 {
				t.Fatalf("read: %+v, %#x", r, s.GPR[0])
			}
			if e := getInt(m.ram[f.entryAt(f.leaf):][:f.size]); e&(entryAccessed|entryDirty) != entryAccessed {
				t.Errorf("leaf %#x after a read", e)
			}
			for level := f.leaf; level <= f.levels; level++ {
				f.broken(t, level, 0, 0, 0)
				for _, bit := range f.reservedBits(level) {
					f.broken(t, level, ^uint64(0), 1<<bit, pfPresent|pfReserved)
				}
			}
		})
	}
}

// reservedBits lists bits that must be zero with 46 physical address bits (SDM
// vol. 3 tables 4-4 to 4-20).
func (f *format) reservedBits(level int) []int {
	switch {
	case f.size == 4 && level == 2 && f.leaf == 2:
		return []int{21}
	case f.size == 4:
		return nil
	case f.pdpte(level):
		return []int{1, 2, 5, 6, 7, 8, 46, 51, 52, 63}
	case f.levels == 3 && level == 2 && f.leaf == 2:
		return []int{13, 20, 46, 52, 62}
	case f.levels == 3:
		return []int{46, 51, 52, 62}
	case level >= 4:
		return []int{7, 46, 51}
	case level == 3 && f.leaf == 3:
		return []int{13, 29, 46, 51}
	case level == 2 && f.leaf == 2:
		return []int{13, 20, 46, 51}
	}
	return []int{46, 51}
}

// broken changes the entry of a level and expects a page fault that leaves
// memory alone.
func (f *format) broken(t *testing.T, level int, keep, set uint64, code uint32) {
	t.Helper()
	m, s := f.build(true, allRights)
	at := m.ram[f.entryAt(level):][:f.size]
	putInt(at, getInt(at)&keep|set)
	before := m.ram
	r := f.step(m, s)
	want := Fault{Vector: vectorPF, HasCode: true, Code: code | pfWrite, Address: f.linear}
	if r.Outcome != Faulted || r.Fault != want {
		t.Errorf("level %d, bits %#x: %+v", level, set, r)
	}
	if m.ram != before {
		t.Errorf("level %d, bits %#x: memory changed", level, set)
	}
}

// TestIgnoredBits checks bits that software may use.
func TestIgnoredBits(t *testing.T) {
	for i := range formats {
		f := &formats[i]
		for level := f.leaf; level <= f.levels; level++ {
			bits := []int{9, 10, 11}
			if f.levels > 3 {
				bits = append(bits, 52, 58, 62)
			}
			for _, bit := range bits {
				m, s := f.build(true, allRights)
				at := m.ram[f.entryAt(level):][:f.size]
				putInt(at, getInt(at)|1<<bit)
				if r := f.step(m, s); r.Outcome != Done {
					t.Errorf("%s level %d bit %d: %+v", f.name, level, bit, r)
				}
			}
		}
	}
}

// TestRights compares every combination of rights and privileges with the
// sentences of SDM vol. 3 §4.6.1, written out per access.
func TestRights(t *testing.T) {
	for n := range 1 << 8 {
		bit := func(i int) bool { return n>>i&1 != 0 }
		isUser, write, wp, smap, ac, u, w, present := bit(0), bit(1), bit(2), bit(3), bit(4), bit(5), bit(6), bit(7)
		if !present {
			continue
		}
		var allowed bool
		switch {
		case isUser && !write:
			allowed = u
		case isUser:
			allowed = u && w
		case !write:
			allowed = !u || !smap || ac
		case !u:
			allowed = w || !wp
		default:
			allowed = (w || !wp) && (!smap || ac)
		}
		f := &formats[4]
		rights := uint64(entryPresent)
		if u {
			rights |= entryUser
		}
		if w {
			rights |= entryWrite
		}
		m, s := f.build(write, rights)
		s.RFLAGS = 2
		if ac {
			s.RFLAGS |= flagAC
		}
		if !wp {
			s.CR0 &^= cr0WP
		}
		if smap {
			s.CR4 |= cr4SMAP
		}
		if isUser {
			user(s, m)
		}
		r := f.step(m, s)
		if allowed != (r.Outcome == Done) {
			t.Errorf("user %t write %t WP %t SMAP %t AC %t, page U %t W %t: %+v", isUser, write, wp, smap, ac, u, w, r)
		}
		code := uint32(pfPresent)
		if write {
			code |= pfWrite
		}
		if isUser {
			code |= pfUser
		}
		if !allowed && r.Fault.Code != code {
			t.Errorf("error code %#x, want %#x", r.Fault.Code, code)
		}
	}
}

// TestFetchRights checks NX and SMEP on the page of the code.
func TestFetchRights(t *testing.T) {
	for _, c := range []struct {
		name   string
		set    uint64
		all    uint64
		cr4    uint64
		nxe    bool
		isUser bool
		code   uint32
		ok     bool
	}{
		{"plain", 0, 0, 0, true, false, 0, true},
		{"NX", entryNX, 0, 0, true, false, pfPresent | pfFetch, false},
		{"NX reserved", entryNX, 0, 0, false, false, pfPresent | pfReserved, false},
		{"user page without SMEP", entryUser, entryUser, 0, true, false, 0, true},
		{"SMEP", entryUser, entryUser, cr4SMEP, true, false, pfPresent | pfFetch, false},
		{"SMEP, user code", entryUser, entryUser, cr4SMEP, true, true, 0, true},
		{"supervisor page", 0, 0, 0, true, true, pfPresent | pfUser | pfFetch, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &machine{}
			s := newState(m, mode64)
			for _, at := range []int{tablesAt, tablesAt + 0x1000, tablesAt + 0x2000} {
				putInt(m.ram[at:][:8], getInt(m.ram[at:][:8])|c.all)
			}
			at := m.ram[pte(codeAt):][:8]
			putInt(at, getInt(at)|c.set)
			copy(m.ram[codeAt:], []byte{0x0F, 0x9F, 0xC0}) // setg al
			s.CR4 |= c.cr4
			if !c.nxe {
				s.EFER &^= eferNXE
			}
			if c.isUser {
				user(s, m)
			}
			r := New(m, m, m).Step(s)
			if c.ok != (r.Outcome == Done) || r.Fault.Code != c.code {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestProtectionKeys follows SDM vol. 3 §4.6.2.
func TestProtectionKeys(t *testing.T) {
	f := &formats[4]
	for n := range 1 << 4 {
		write, ad, wd, sup := n&1 != 0, n&2 != 0, n&4 != 0, n&8 != 0
		m, s := f.build(write, allRights|5<<entryKey)
		s.CR4 |= cr4PKE
		if ad {
			s.PKRU |= 1 << 10
		}
		if wd {
			s.PKRU |= 2 << 10
		}
		if sup {
			s.CR0 &^= cr0WP
		} else {
			user(s, m)
		}
		bad := ad || wd && write && !sup
		r := f.step(m, s)
		if bad != (r.Outcome == Faulted) || bad && r.Fault.Code&pfKey == 0 {
			t.Errorf("write %t AD %t WD %t supervisor %t: %+v", write, ad, wd, sup, r)
		}
	}
}

// TestEntryChanges checks that a translation is not used once its entry has
// changed, and that a concurrent accessed bit does no harm.
func TestEntryChanges(t *testing.T) {
	f := &formats[4]
	for _, c := range []struct {
		xor  uint64
		want Outcome
	}{{entryAccessed, Done}, {entryPresent, Continue}, {1 << 13, Continue}} {
		t.Run(fmt.Sprintf("%#x", c.xor), func(t *testing.T) {
			m, s := f.build(true, allRights)
			m.race = func(m *machine) {
				m.race = nil
				at := m.ram[f.entryAt(1):][:8]
				putInt(at, getInt(at)^c.xor)
			}
			if r := f.step(m, s); r.Outcome != c.want {
				t.Errorf("%+v", r)
			}
			if c.want == Continue && getInt(m.ram[dataAt+0x123:][:4]) != 0x11223344 {
				t.Error("wrote through a stale translation")
			}
		})
	}
}

// TestLargePageAbove4G checks PSE-36 (SDM vol. 3 table 4-4).
func TestLargePageAbove4G(t *testing.T) {
	s := &State{CR4: cr4PSE, PhysicalBits: 40}
	p := s.paging()
	if at := p.target(0x00400000|0x1F<<13|entryLarge, 2, true); at != 0x1F00400000 {
		t.Errorf("address %#x", at)
	}
	if r := p.reserved(s, 2, true); r != 1<<21 {
		t.Errorf("reserved %#x with 40 address bits", r)
	}
	s.PhysicalBits = 36
	if r := p.reserved(s, 2, true); r != 0x1F<<17 {
		t.Errorf("reserved %#x with 36 address bits", r)
	}
}
