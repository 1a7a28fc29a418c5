package msr

import (
	"testing"

	"keel/hcl"
	"keel/hcl/abi/x86"
)

// rows says, once more and by hand, what a guest finds: a value to be read, one that may
// be written and one that may not, and what is read after the first write.
var rows = []struct {
	first, last uint32
	value       uint64
	good, after uint64 // good is none where it equals refuses
	bad         uint64
}{
	{0x17, 0x17, 0, none, 0, 1},
	{0x8b, 0x8b, 0x0100006500000000, 0, 0x0100006500000000, none},
	{0xe1, 0xe1, 0, 0xfffffffd, 0xfffffffd, 2},
	{0xfe, 0xfe, 0x508, none, 0, 0x508},
	{0x10a, 0x10a, 0, none, 0, 0},
	{0x179, 0x179, 0, none, 0, 0},
	{0x17a, 0x17a, 0, 7, 7, 8},
	{0x1a0, 0x1a0, 1, 0, 1, 2},
	{0x1d9, 0x1d9, 0, 3, 0, 4},
	{0x200, 0x20f, 0, 0x80000006, 0x80000006, 0x80000002},
	{0x250, 0x250, 0, 0x0605040100060606, 0x0605040100060606, 0x0706060606060606},
	{0x258, 0x259, 0, 0x0606060606060606, 0x0606060606060606, 0x0606060602060606},
	{0x268, 0x26f, 0, 0, 0, 3},
	{0x2ff, 0x2ff, 0xc06 &^ 0x400, 0xc00, 0xc00, 1 << 12},
	{0xc0010010, 0xc0010010, 0, 0, 0, 1 << 23}, // memory encryption
	{0xc0010015, 0xc0010015, 1 << 24, 1<<24 | 1<<30, 1 << 24, 1},
	{0xc001001a, 0xc001001a, 0, none, 0, 0},
	{0xc001001d, 0xc001001d, 0, none, 0, 0},
	{0xc001001f, 0xc001001f, 0, 1 << 46, 0, none},
	{0xc0010055, 0xc0010055, 0, none, 0, 0},
	{0xc0010058, 0xc0010058, 0, none, 0, 1},
	{0xc0010140, 0xc0010141, 0, none, 0, 0},
	{0xc0011022, 0xc0011022, 0, 1, 0, none},
	{0xc0011029, 0xc0011029, 2, 1<<9 | 2, 2, 1},
}

// none stands for no such value.
const none = 0x6b65656c6b65656c

func TestRows(t *testing.T) {
	if len(rows) != len(Rows) {
		t.Fatalf("%d rows are tested of %d", len(rows), len(Rows))
	}
	for i, want := range rows {
		got := &Rows[i]
		if got.First != want.first || got.Last != want.last || got.Reason == "" {
			t.Errorf("row %d is %+v, want %#x to %#x, with a reason", i, got, want.first, want.last)
			continue
		}
		for _, index := range []uint32{want.first, want.last} {
			var b Bank
			if v, ok := b.Read(index); !ok || v != want.value {
				t.Errorf("%#x reads as %#x, %v, want %#x", index, v, ok, want.value)
			}
			if want.bad != none && b.Write(index, want.bad) {
				t.Errorf("%#x takes %#x", index, want.bad)
			}
			if v, _ := b.Read(index); v != want.value {
				t.Errorf("%#x reads as %#x after a write that was refused", index, v)
			}
			if want.good == none {
				continue
			}
			if !b.Write(index, want.good) {
				t.Errorf("%#x refuses %#x", index, want.good)
			}
			if v, _ := b.Read(index); v != want.after {
				t.Errorf("%#x reads as %#x after a write of %#x, want %#x", index, v, want.good, want.after)
			}
			b.Reset()
			if v, _ := b.Read(index); v != want.value {
				t.Errorf("%#x reads as %#x after a reset, want %#x", index, v, want.value)
			}
		}
	}
}

// TestOthers: what no row has is #GP, and what others answer is in no row.
func TestOthers(t *testing.T) {
	kept := map[uint32]bool{}
	for _, k := range hcl.KeptMSRs {
		if k.Reason == "" || k.Last < k.First || k.Last-k.First >= 64 {
			t.Errorf("%+v", k)
		}
		for i := k.First; i <= k.Last; i++ {
			if kept[i] {
				t.Errorf("%#x is kept twice", i)
			}
			kept[i] = true
		}
	}
	known := map[uint32]bool{}
	for i, r := range Rows {
		for n := r.First; n <= r.Last; n++ {
			if kept[n] || known[n] {
				t.Errorf("%#x has two owners", n)
			}
			known[n] = true
		}
		if i > 0 && r.First <= Rows[i-1].Last {
			t.Errorf("row %d is out of order", i)
		}
	}
	var b Bank
	for _, base := range []uint32{0, 0x4b564d00, 0xc0000000, 0xc0010000, 0xc0011000} { // KVM's own are the second
		for i := base; i < base+0x2000; i++ {
			if known[i] {
				continue
			}
			if v, ok := b.Read(i); ok || v != 0 || b.Write(i, 0) {
				t.Errorf("%#x is in no row, and is answered", i)
			}
		}
	}
	for _, own := range []uint32{
		x86.IA32_EFER, x86.IA32_XSS, x86.IA32_TSC, x86.IA32_TSC_ADJUST, x86.IA32_TSC_DEADLINE, x86.IA32_APIC_BASE,
		x86.X2APIC_MSR_FIRST, 0x40000000, 0xc0010131, 0xc0010130, // the last two are SEV's
	} {
		if known[own] || kept[own] {
			t.Errorf("%#x is Keel's, or nobody's", own)
		}
	}
}

// TestSlots: every kept register has a place of its own, and writing allocates nothing.
func TestSlots(t *testing.T) {
	var b Bank
	slots := map[int]uint32{}
	for _, r := range Rows {
		for i := r.First; r.Write == Kept && i <= r.Last; i++ {
			_, slot := find(i)
			if other, ok := slots[slot]; ok || slot >= len(b.kept) {
				t.Errorf("%#x has slot %d, as %#x", i, slot, other)
			}
			slots[slot] = i
		}
	}
	if len(slots) != len(b.kept) {
		t.Errorf("%d registers are kept, %d have room", len(slots), len(b.kept))
	}
	if n := testing.AllocsPerRun(100, func() { b.Write(x86.IA32_MTRR_DEF_TYPE, 0xc00) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzBank(f *testing.F) {
	f.Add(uint32(0x2ff), uint64(0xc06))
	f.Add(uint32(0xc0010015), uint64(1<<24))
	f.Fuzz(func(t *testing.T, index uint32, value uint64) {
		var b Bank
		before, known := b.Read(index)
		wrote := b.Write(index, value)
		after, still := b.Read(index)
		if known != still || wrote && !known || after != before && (!wrote || after != value) {
			t.Errorf("%#x: %#x, %v; write of %#x: %v; %#x, %v", index, before, known, value, wrote, after, still)
		}
		b.Reset()
		if v, ok := b.Read(index); v != before || ok != known {
			t.Errorf("%#x: %#x, %v after a reset", index, v, ok)
		}
	})
}
