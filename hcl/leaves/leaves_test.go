package leaves

import (
	"testing"
)

// table is that of a processor with AVX (component 2) and PKRU (component 9, aligned).
var table = Table{
	{Leaf: 1, ECX: 1 << 26, EDX: 0x1234},
	{Leaf: 7, Indexed: true, ECX: 1 << 4},
	{Leaf: 0xd, Indexed: true, EAX: 0x207},
	{Leaf: 0xd, Subleaf: 1, Indexed: true, ECX: 1 << 11},
	{Leaf: 0xd, Subleaf: 2, Indexed: true, EAX: 256, EBX: 576},
	{Leaf: 0xd, Subleaf: 9, Indexed: true, EAX: 8, EBX: 2688, ECX: 1 << 1},
}

func TestQuery(t *testing.T) {
	for _, c := range []struct {
		what          string
		leaf, subleaf uint32
		state         State
		want          [4]uint32
	}{
		{"features", 1, 0, State{}, [4]uint32{2: 1 << 26, 3: 0x1234}},
		{"features with OSXSAVE", 1, 0, State{CR4: 1 << 18}, [4]uint32{2: 3 << 26, 3: 0x1234}},
		{"no OSPKE", 7, 0, State{}, [4]uint32{}},
		{"OSPKE", 7, 0, State{CR4: 1 << 22}, [4]uint32{2: 1 << 4}},
		{"x87 alone", 0xd, 0, State{XCR0: 1}, [4]uint32{0x207, 576}},
		{"AVX", 0xd, 0, State{XCR0: 7}, [4]uint32{0x207, 832}},
		{"AVX and PKRU", 0xd, 0, State{XCR0: 0x207}, [4]uint32{0x207, 2696}},
		{"compacted", 0xd, 1, State{XCR0: 7, XSS: 1 << 9}, [4]uint32{1: 840, 2: 1 << 11}},
		{"component of another subleaf", 7, 1, State{}, [4]uint32{}},
		{"missing", 0x40000000, 0, State{}, [4]uint32{}},
	} {
		var got [4]uint32
		if got[0], got[1], got[2], got[3] = table.Query(c.leaf, c.subleaf, c.state); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.what, got, c.want)
		}
	}
}

func TestXCR0(t *testing.T) {
	const osxsave = 1 << 18
	for _, c := range []struct {
		value, cr4 uint64
		want       bool
	}{
		{1, osxsave, true},
		{7, osxsave, true},
		{0x207, osxsave, true},
		{7, 0, false},
		{0, osxsave, false},
		{6, osxsave, false},       // without x87
		{5, osxsave, false},       // AVX without SSE
		{0x407, osxsave, false},   // a component that was not given
		{1 << 63, osxsave, false}, // nor this
	} {
		if got := table.ValidXCR0(c.value, c.cr4); got != c.want {
			t.Errorf("XCR0 %#x, CR4 %#x: %v", c.value, c.cr4, got)
		}
	}
	if none := (Table{{Leaf: 1}}); none.HasXSave() || none.ValidXCR0(1, osxsave) || none.SupportedXSS() != 0 || !table.HasXSave() || table.SupportedXSS() != 1<<11 {
		t.Error("what was not given is there, or the other way around")
	}
}
