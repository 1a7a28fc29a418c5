package cpuid

import (
	"testing"

	"keel/hcl"
	"keel/hcl/abi/x86"
)

// substrate is what a generous KVM on an AMD machine might offer.
func substrate() []hcl.CPUIDEntry {
	return []hcl.CPUIDEntry{
		{Leaf: 0, EAX: 0xd, EBX: 0x68747541, ECX: 0x444d4163, EDX: 0x69746e65},
		{Leaf: 1, EAX: 0x830f10, EBX: 0xff080800, ECX: 0xffffffff &^ (1 << 24), EDX: 0xffffffff},
		{Leaf: 4, Subleaf: 3, Indexed: true, EAX: 0xffffc163},
		{Leaf: 0xa, EAX: 0x7300404},
		{Leaf: 0xb, Subleaf: 0, Indexed: true, EAX: 9, EBX: 9, EDX: 9},
		{Leaf: 0x40000000, EAX: 0x40000001, EBX: 0x4b4d564b},
		{Leaf: 0x40000001, EAX: 0x1000efb},
		{Leaf: 0x80000001, ECX: 0xffffffff, EDX: 0x2fd3fbff},
		{Leaf: 0x80000007, EAX: 7, EBX: 7, ECX: 7},
		{Leaf: 0x80000008, EAX: 0x3030, ECX: 0x7007},
		{Leaf: 0x8000000a, EAX: 1, EBX: 8, EDX: 0xffff},
		{Leaf: 0x8000001d, Subleaf: 0, Indexed: true, EAX: 0x3fffc121},
		{Leaf: 0x8000001d, Subleaf: 3, Indexed: true, EAX: 0xffffc163},
		{Leaf: 0x8000001e, EAX: 99, EBX: 0x1ff, ECX: 0x7ff},
		{Leaf: 0x8000001f, EAX: 0x1f},
	}
}

func find(t *testing.T, table []hcl.CPUIDEntry, leaf, subleaf uint32) hcl.CPUIDEntry {
	t.Helper()
	for _, e := range table {
		if e.Leaf == leaf && e.Subleaf == subleaf {
			return e
		}
	}
	t.Fatalf("leaf %#x.%d is missing", leaf, subleaf)
	return hcl.CPUIDEntry{}
}

func TestNoHypervisorAndNoTEEIsSeen(t *testing.T) {
	table := Machine{VPs: 4, TSCHz: 2e9, TimerHz: 1e9}.Build(substrate(), 1)
	for _, e := range table {
		if e.Leaf>>28 == 4 {
			t.Errorf("hypervisor leaf %#x is visible", e.Leaf)
		}
		if e.Leaf == 0x8000001f || e.Leaf == 0x8000000a || e.Leaf == 0xa {
			t.Errorf("leaf %#x is visible", e.Leaf)
		}
	}
	f := find(t, table, 1, 0)
	if f.ECX&(1<<31|1<<5|1<<3) != 0 {
		t.Errorf("hypervisor, VMX or MONITOR is visible: %#x", f.ECX)
	}
	if f.ECX&(1<<21) == 0 || f.ECX&(1<<24) == 0 {
		t.Errorf("x2APIC or TSC deadline is missing: %#x", f.ECX)
	}
	if x := find(t, table, 0x80000001, 0); x.ECX&(1<<2) != 0 {
		t.Errorf("SVM is visible: %#x", x.ECX)
	}
}

func TestTopologyIsWhatWasAskedFor(t *testing.T) {
	for _, c := range []struct {
		vps    int
		id     x86.APICID
		idBits uint32
	}{{1, 0, 0}, {2, 1, 1}, {3, 2, 2}, {4, 3, 2}, {16, 15, 4}} {
		table := Machine{VPs: c.vps}.Build(substrate(), c.id)
		f := find(t, table, 1, 0)
		if got := f.EBX >> 16 & 0xff; got != uint32(c.vps) {
			t.Errorf("%d VPs: leaf 1 counts %d", c.vps, got)
		}
		if got := f.EBX >> 24; got != uint32(c.id) {
			t.Errorf("leaf 1 has APIC ID %d, want %d", got, c.id)
		}
		if got := f.EDX>>28&1 == 1; got != (c.vps > 1) {
			t.Errorf("%d VPs: HTT %v", c.vps, got)
		}
		core := find(t, table, 0xb, 1)
		if core.EAX != c.idBits || core.EBX != uint32(c.vps) || core.ECX != 0x201 || core.EDX != uint32(c.id) {
			t.Errorf("%d VPs: core level %+v", c.vps, core)
		}
		if smt := find(t, table, 0xb, 0); smt.EAX != 0 || smt.EBX != 1 || smt.ECX != 0x100 {
			t.Errorf("thread level %+v", smt)
		}
		if a := find(t, table, 0x80000008, 0); a.ECX != uint32(c.vps-1)|c.idBits<<12 || a.EAX != 0x3030 {
			t.Errorf("%d VPs: leaf 0x80000008 %+v", c.vps, a)
		}
		if a := find(t, table, 0x8000001e, 0); a.EAX != uint32(c.id) || a.EBX != uint32(c.id) || a.ECX != 0 {
			t.Errorf("leaf 0x8000001e %+v", a)
		}
		if l1 := find(t, table, 0x8000001d, 0); l1.EAX>>14&0xfff != 0 {
			t.Errorf("the first-level cache is shared: %#x", l1.EAX)
		}
		if l3 := find(t, table, 0x8000001d, 3); l3.EAX>>14&0xfff != uint32(c.vps-1) {
			t.Errorf("the last-level cache is shared by %d", l3.EAX>>14&0xfff+1)
		}
	}
}

func TestFrequencyLeaf(t *testing.T) {
	const hz = 2_595_124_000
	table := Machine{VPs: 1, TSCHz: hz, TimerHz: 1e9}.Build(substrate(), 0)
	l := find(t, table, 0x15, 0)
	if got := uint64(l.ECX) * uint64(l.EBX) / uint64(l.EAX); got != hz {
		t.Errorf("leaf 0x15 says %d Hz, want %d", got, hz)
	}
	if v := find(t, table, 0, 0); v.EAX < 0x16 {
		t.Errorf("highest leaf %#x hides the frequency leaves", v.EAX)
	}
	if l := find(t, table, 0x16, 0); l.EAX != 2595 {
		t.Errorf("leaf 0x16 says %d MHz", l.EAX)
	}
	unknown := Machine{VPs: 1, TimerHz: 1e9}.Build(substrate(), 0)
	if l := find(t, unknown, 0x15, 0); l.EAX|l.EBX|l.ECX != 0 {
		t.Errorf("an unknown frequency is reported as %+v", l)
	}
}

func TestTellsFrequency(t *testing.T) {
	for _, tt := range []struct {
		vendor uint32
		want   bool
	}{
		{0x756e6547, true},  // GenuineIntel
		{0x68747541, false}, // AuthenticAMD
		{0x6f677948, false}, // HygonGenuine
	} {
		if got := TellsFrequency([]hcl.CPUIDEntry{{Leaf: 1, EBX: 0x756e6547}, {Leaf: 0, EBX: tt.vendor}}); got != tt.want {
			t.Errorf("vendor %#x: %v, want %v", tt.vendor, got, tt.want)
		}
	}
}
