package coredump

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/vtl/x86emu"
)

const mib = 1 << 20

var ram = []Range{{0, 3 * mib}, {4 << 30, mib}}

// file makes a whole file whose RAM has the number of its megabyte in each byte.
func file(t *testing.T, vps []VP, mapped []x86emu.Mapping) *elf.File {
	t.Helper()
	l := New(vps, ram, mapped)
	image := make([]byte, l.Size)
	copy(image, l.Head)
	n := byte(1)
	for i, r := range ram {
		if l.Offsets[i]%x86.PageSize != 0 {
			t.Errorf("range %d is at %#x", i, l.Offsets[i])
		}
		for at := uint64(0); at < r.Size; at++ {
			image[l.Offsets[i]+at] = n + byte(at/mib)
		}
		n += byte(r.Size / mib)
	}
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_CORE || f.Machine != elf.EM_X86_64 || f.Class != elf.ELFCLASS64 || len(f.Progs) < 1 || f.Progs[0].Type != elf.PT_NOTE {
		t.Fatalf("%+v", f.FileHeader)
	}
	return f
}

func TestMemory(t *testing.T) {
	f := file(t, make([]VP, 1), []x86emu.Mapping{
		{Linear: 0xffff888000000000, GPA: 0, Size: 2 * mib},
		{Linear: 0xffffc90000000000, GPA: 2*mib + 4096, Size: 4 << 30}, // over a hole, up to RAM behind it
		{Linear: 0xffffffff80000000, GPA: 3 << 30, Size: 4096},         // no RAM
	})
	want := []struct {
		virtual, physical, size uint64
		first, last             byte
	}{
		{0, 0, 3 * mib, 1, 3},
		{4 << 30, 4 << 30, mib, 4, 4},
		{0xffff888000000000, 0, 2 * mib, 1, 2},
		{0xffffc90000000000, 2*mib + 4096, mib - 4096, 3, 3},
		{0xffffc90000000000 + 4<<30 - 2*mib - 4096, 4 << 30, mib, 4, 4},
	}
	if len(f.Progs) != 1+len(want) {
		t.Fatalf("%d program headers", len(f.Progs))
	}
	for i, w := range want {
		p := f.Progs[1+i]
		b, err := io.ReadAll(p.Open())
		if err != nil {
			t.Fatal(err)
		}
		if p.Type != elf.PT_LOAD || p.Vaddr != w.virtual || p.Paddr != w.physical || p.Filesz != w.size || p.Memsz != w.size ||
			b[0] != w.first || b[len(b)-1] != w.last {
			t.Errorf("%d: %+v, %d to %d; want %+v", i, p.ProgHeader, b[0], b[len(b)-1], w)
		}
	}
}

func TestBoundedMappings(t *testing.T) {
	many := make([]x86emu.Mapping, MaxMappings+10)
	for i := range many {
		many[i] = x86emu.Mapping{Linear: uint64(i) << 13, GPA: 0, Size: 4096}
	}
	if f := file(t, nil, many); len(f.Progs) != 1+len(ram)+MaxMappings {
		t.Errorf("%d program headers", len(f.Progs))
	}
}

// TestNotes: the numbers are offsets in struct elf_prstatus and QEMUCPUState.
func TestNotes(t *testing.T) {
	vps := make([]VP, 2)
	vps[1] = VP{
		Registers: hcl.Registers{R15: 15, RAX: 1, RIP: 0xffffffff81000000, RSP: 7, RFLAGS: 0x46},
		Special: hcl.SpecialRegisters{
			CS: hcl.Segment{Selector: 0x10, Limit: 0xffffffff, Attributes: hcl.SegPresent | hcl.SegNonSystem | hcl.SegLong | hcl.SegGranularity | 0xb},
			GS: hcl.Segment{Base: 0xffff888012340000}, IDT: hcl.Table{Base: 0xfffffe0000000000, Limit: 0xfff}, CR0: 0x80050033, CR3: 0x1000, CR4: 0x20,
		},
		KernelGSBase: 5,
	}
	f := file(t, vps, nil)
	b, err := io.ReadAll(f.Progs[0].Open())
	if err != nil {
		t.Fatal(err)
	}
	var notes [][]byte
	for len(b) > 0 {
		name, size, kind := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
		want, length, of := "CORE\x00", uint32(336), uint32(1)
		if len(notes) >= len(vps) {
			want, length, of = "QEMU\x00", 440, 0
		}
		if string(b[12:12+name]) != want || size != length || kind != of {
			t.Fatalf("note %d: %q of type %d, %d bytes", len(notes), b[12:12+name], kind, size)
		}
		notes = append(notes, b[20:20+size])
		b = b[20+size:]
	}
	if len(notes) != 2*len(vps) {
		t.Fatalf("%d notes", len(notes))
	}
	check := func(note, at int, want uint64) {
		t.Helper()
		if got := binary.LittleEndian.Uint64(notes[note][at:]); got != want {
			t.Errorf("note %d has %#x at %d, want %#x", note, got, at, want)
		}
	}
	const general = 112
	check(0, 32, 1) // the number of the process, with another one behind it that is 0
	check(1, 32, 2)
	for register, want := range map[int]uint64{0: 15, 10: 1, 16: 0xffffffff81000000, 17: 0x10, 18: 0x46, 19: 7, 22: 0xffff888012340000} {
		check(1, general+8*register, want)
	}
	check(3, 0, 440<<32|1)
	check(3, 8, 1)
	check(3, 8+8*16, 0xffffffff81000000)
	check(3, 152, 0xffffffff<<32|0x10)        // CS: selector and limit
	check(3, 160, 0xa09b00)                   // flags, as in a descriptor
	check(3, 152+4*24+16, 0xffff888012340000) // GS
	check(3, 152+9*24+16, 0xfffffe0000000000) // IDT
	check(3, 392, 0x80050033)
	check(3, 392+3*8, 0x1000)
	check(3, 432, 5)
}
