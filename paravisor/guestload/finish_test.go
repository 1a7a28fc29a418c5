package guestload

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/hcl"
	"keel/hcl/abi/x86"
)

func TestBootParams(t *testing.T) {
	k := planned(t, mem256())
	if _, err := k.PlaceInitrd([]byte("070701"), 0x1234); err != nil {
		t.Fatal(err)
	}
	mem := make(ram, 256<<20)
	e, err := k.Finish(mem, Boot{CommandLine: "console=ttyS0", RSDP: 0xe0000})
	if err != nil {
		t.Fatal(err)
	}
	p := mem[e.Registers.RSI:]
	// Offsets straight from zero-page.rst and boot.rst.
	for _, f := range []struct {
		name  string
		got   uint64
		wants uint64
	}{
		{"boot_flag", uint64(le.Uint16(p[0x1fe:])), 0xaa55},
		{"header", uint64(le.Uint32(p[0x202:])), 0x53726448},
		{"type_of_loader", uint64(p[0x210]), 0xff},
		{"ramdisk_image", uint64(le.Uint32(p[0x218:])), 0xfff_e000},
		{"ramdisk_size", uint64(le.Uint32(p[0x21c:])), 0x1234},
		{"init_size", uint64(le.Uint32(p[0x260:])), 0x280_0000},
		{"setup_data", le.Uint64(p[0x250:]), 0},
		{"acpi_rsdp_addr", le.Uint64(p[0x70:]), 0xe0000},
		{"e820_entries", uint64(p[0x1e8]), 6},
		{"sentinel", uint64(p[0x1ef]), 0},
	} {
		if f.got != f.wants {
			t.Errorf("%s = %#x, want %#x", f.name, f.got, f.wants)
		}
	}
	cmd := string(mem[le.Uint32(p[0x228:]):][:14])
	if cmd != "console=ttyS0\x00" {
		t.Errorf("command line %q", cmd)
	}
	var got []Region
	for i := range int(p[0x1e8]) {
		e := p[0x2d0+i*20:]
		got = append(got, Region{x86.GPA(le.Uint64(e)), le.Uint64(e[8:]), Kind(le.Uint32(e[16:]))})
	}
	want := []Region{
		{0, 0x9fc00, KindRAM},
		{0x9fc00, 0x400, KindReserved},
		{0xe0000, 0x10000, KindACPI},
		{0xf0000, 0x10000, KindReserved},
		{0x10_0000, 0xff0_0000, KindRAM},
		{0xe000_0000, 0x1000_0000, KindReserved},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("memory map\n%x, want\n%x", got, want)
	}
}

func TestE820(t *testing.T) {
	m := Map{LowRAM: 3 << 30, HighRAM: 1 << 30}
	got, err := m.E820()
	if err != nil {
		t.Fatal(err)
	}
	if last := got[len(got)-1]; last != (Region{4 << 30, 1 << 30, KindRAM}) {
		t.Errorf("last region %+v", last)
	}
	for name, m := range map[string]Map{
		"little":  {LowRAM: 1 << 20},
		"much":    {LowRAM: 4<<30 + 1},
		"overlap": {LowRAM: 1 << 30, Reserved: []Region{{0x1000, 1, KindReserved}}},
		"empty":   {LowRAM: 1 << 30, Reserved: []Region{{0xe0000, 0, KindReserved}}},
		"wraps":   {LowRAM: 1 << 30, Reserved: []Region{{0xe000_0000, ^uint64(0), KindReserved}}},
		"many":    {LowRAM: 1 << 30, Reserved: make([]Region, 128)},
	} {
		if r, err := m.E820(); !errors.Is(err, ErrMap) {
			t.Errorf("%s: got %+v, %v", name, r, err)
		}
	}
}

// walk translates a linear address with the page tables in mem, as the
// processor does (AMD64 APM vol. 2 §5.3).
func walk(mem ram, cr3, linear uint64) (uint64, bool) {
	table := cr3
	for shift := 39; ; shift -= 9 {
		e := le.Uint64(mem[table+(linear>>shift&0x1ff)*8:])
		if e&1 == 0 {
			return 0, false
		}
		base := e & 0x000f_ffff_ffff_f000
		if shift == 21 {
			return base | linear&(1<<21-1), e&(1<<7) != 0
		}
		table = base
	}
}

func TestEntryState(t *testing.T) {
	k := planned(t, mem256())
	mem := make(ram, 256<<20)
	e, err := k.Finish(mem, Boot{})
	if err != nil {
		t.Fatal(err)
	}
	s := e.Special
	if e.Registers.RIP != 0x100_0200 || e.Registers.RFLAGS != 2 {
		t.Errorf("RIP %#x, RFLAGS %#x", e.Registers.RIP, e.Registers.RFLAGS)
	}
	if s.CR0 != 0x8000_0011 || s.CR4 != 0x20 || s.EFER != 0x500 {
		t.Errorf("CR0 %#x, CR4 %#x, EFER %#x", s.CR0, s.CR4, s.EFER)
	}
	for _, a := range []uint64{0, 0x7000, 0x100_0200, 0x8000_0000, 0xffff_fff8} {
		if p, ok := walk(mem, s.CR3, a); !ok || p != a {
			t.Errorf("%#x is mapped to %#x, %v", a, p, ok)
		}
	}
	if _, ok := walk(mem, s.CR3, 1<<32); ok {
		t.Error("4 GiB is mapped")
	}
	// The hidden parts agree with the table in memory.
	for _, d := range []struct {
		name  string
		seg   hcl.Segment
		wants uint64
	}{
		{"CS", s.CS, 0x00af_9b00_0000_ffff},
		{"DS", s.DS, 0x00cf_9300_0000_ffff},
		{"SS", s.SS, 0x00cf_9300_0000_ffff},
		{"TR", s.TR, 0x0000_8b00_0000_0067},
	} {
		at := uint64(d.seg.Selector)
		if at+8 > uint64(s.GDT.Limit)+1 {
			t.Errorf("%s is outside the GDT", d.name)
		}
		if got := le.Uint64(mem[s.GDT.Base+at:]); got != d.wants {
			t.Errorf("%s descriptor %#016x, want %#016x", d.name, got, d.wants)
		}
	}
	if s.CS.Selector != 0x10 || s.DS.Selector != 0x18 {
		t.Errorf("selectors %#x, %#x", s.CS.Selector, s.DS.Selector)
	}
}

func TestFinishFails(t *testing.T) {
	k := planned(t, mem256())
	_, err := k.Finish(make(ram, 1<<20), Boot{CommandLine: strings.Repeat("a", 2048)})
	wantFailure(t, err, handoff.OutcomeBadConfig, "2048 bytes")
	if _, err := k.Finish(make(ram, 0x8000), Boot{}); !errors.Is(err, errOutside) {
		t.Errorf("got %v", err)
	}
	v, err := PlanKernel(vmlinux(), uint64(len(vmlinux())), mem256())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Finish(make(ram, 16<<20), Boot{}); !errors.Is(err, errOutside) {
		t.Errorf("got %v", err)
	}
	k.mem.Reserved = append(k.mem.Reserved, Region{0, 1, KindNVS})
	if _, err := k.Finish(make(ram, 1<<20), Boot{}); !errors.Is(err, ErrMap) {
		t.Errorf("got %v", err)
	}
}

func TestHintsGiveWay(t *testing.T) {
	k := planned(t, mem256())
	for _, tt := range []struct{ line, hints, want string }{
		{"quiet", "", "quiet"},
		{"quiet", "tsc=reliable", "quiet tsc=reliable"},
		{"", "tsc=reliable", "tsc=reliable"},
		{strings.Repeat("a", 2040), "b=12345", strings.Repeat("a", 2040)}, // one byte too many
		{strings.Repeat("a", 2040), "b=1234", strings.Repeat("a", 2040) + " b=1234"},
	} {
		mem := make(ram, 256<<20)
		e, err := k.Finish(mem, Boot{CommandLine: tt.line, Hints: tt.hints})
		if err != nil {
			t.Fatal(err)
		}
		at := le.Uint32(mem[e.Registers.RSI+0x228:])
		if got := string(mem[at:][:len(tt.want)+1]); got != tt.want+"\x00" {
			t.Errorf("%.20q with %q became %.40q", tt.line, tt.hints, got)
		}
	}
}
