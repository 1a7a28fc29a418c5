package guestload

import (
	"reflect"
	"testing"

	"keel/boot/handoff"
)

func TestPlanVMLinux(t *testing.T) {
	file := vmlinux()
	k, err := PlanKernel(head(file), uint64(len(file)), mem256())
	if err != nil {
		t.Fatal(err)
	}
	want := []Segment{
		{Offset: 0x1000, Size: 0x1000, GPA: 0x100_0000},
		{Offset: 0x2000, Size: 0x800, GPA: 0x120_0000},
	}
	if !reflect.DeepEqual(k.Segments, want) {
		t.Errorf("segments %+v, want %+v", k.Segments, want)
	}
	if k.entry != 0x100_0040 || k.start != 0x100_0000 || k.end != 0x130_0000 {
		t.Errorf("entry %#x, memory %#x..%#x", k.entry, k.start, k.end)
	}
}

// What a vmlinux leaves out of its file must be zero, also after a reset.
func TestVMLinuxBSSIsCleared(t *testing.T) {
	file := vmlinux()
	k, err := PlanKernel(file, uint64(len(file)), mem256())
	if err != nil {
		t.Fatal(err)
	}
	mem := make(ram, 256<<20)
	for i := range mem[0x120_0000:0x140_0000] {
		mem[0x120_0000+i] = 0xaa
	}
	if _, err := k.Finish(mem, Boot{}); err != nil {
		t.Fatal(err)
	}
	for i, b := range mem[0x120_0000:0x140_0000] {
		want := byte(0xaa)
		if i >= 0x800 && i < 0x10_0000 {
			want = 0
		}
		if b != want {
			t.Fatalf("byte %#x is %#x, want %#x", 0x120_0000+i, b, want)
		}
	}
}

func TestBadVMLinux(t *testing.T) {
	cases := []struct {
		name  string
		spoil func([]byte)
		names string
	}{
		{"32 bits", func(b []byte) { b[ehClass] = 1 }, "another architecture"},
		{"big endian", func(b []byte) { b[ehData] = 2 }, "another architecture"},
		{"i386", func(b []byte) { b[ehMachine] = 3 }, "ELF file for i386"},
		{"object", func(b []byte) { b[ehType] = 1 }, "type 1"},
		{"no program headers", func(b []byte) { le.PutUint16(b[ehPhNum:], 0) }, "0 program headers"},
		{"many program headers", func(b []byte) { le.PutUint16(b[ehPhNum:], 33) }, "33 program headers"},
		{"odd program headers", func(b []byte) { le.PutUint16(b[ehPhEntSize:], 32) }, "of 32 bytes"},
		{"headers far away", func(b []byte) { le.PutUint64(b[ehPhOff:], 1<<40) }, "outside the first"},
		{"headers at the end", func(b []byte) { le.PutUint64(b[ehPhOff:], 0x3000-phSize) }, "outside the first"},
		{"truncated", func(b []byte) { le.PutUint64(b[phBSS+phOffset:], 0x2801) }, "a segment needs"},
		{"offset wraps", func(b []byte) { le.PutUint64(b[phBSS+phOffset:], ^uint64(0)) }, "a segment needs"},
		{"more file than memory", func(b []byte) { le.PutUint64(b[phBSS+phMemSz:], 0x400) }, "impossible"},
		{"huge bss", func(b []byte) { le.PutUint64(b[phBSS+phMemSz:], 1<<62) }, "impossible"},
		{"low", func(b []byte) { le.PutUint64(b[phBSS+phPAddr:], 0x1000) }, "no Linux kernel"},
		{"high", func(b []byte) { le.PutUint64(b[phBSS+phPAddr:], 1<<32) }, "no Linux kernel"},
		{"address wraps", func(b []byte) { le.PutUint64(b[phBSS+phPAddr:], ^uint64(0)) }, "no Linux kernel"},
		{"user program", func(b []byte) { le.PutUint64(b[phText+phVAddr:], 0x40_0000) }, "linked at 0x400000"},
		{"overlap", func(b []byte) { le.PutUint64(b[phBSS+phPAddr:], 0x100_0800) }, "overlap"},
		{"entry outside", func(b []byte) { le.PutUint64(b[ehEntry:], 0x110_0000) }, "entry point"},
		{"nothing to load", func(b []byte) { b[phText], b[phBSS] = 0, 0 }, "nothing to load"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			file := vmlinux()
			c.spoil(file)
			_, err := PlanKernel(head(file), uint64(len(file)), mem256())
			wantFailure(t, err, handoff.OutcomeBadKernel, c.names)
		})
	}
	_, err := PlanKernel(vmlinux()[:ehSize-1], ehSize-1, mem256())
	wantFailure(t, err, handoff.OutcomeBadKernel, "cut short")
}

func FuzzPlanVMLinux(f *testing.F) {
	f.Add(vmlinux(), uint64(len(vmlinux())))
	f.Add(vmlinux()[:phNote], uint64(1<<30))
	f.Fuzz(fuzzPlan)
}
