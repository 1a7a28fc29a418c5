// Package coredump lays out a guest's memory and registers as an ELF core file, which gdb
// and crash open.
//
// The file begins with headers and notes; then comes all RAM, range after range, each page
// at a multiple of its size in the file, so that pages of zeroes can be holes. Each range
// has a program header under its physical address, and each run of mapped memory one under
// its virtual address, which points to the same bytes. The notes are those of QEMU's
// dump-guest-memory.
//
// Specifications: System V ABI, ELF-64; System V ABI, AMD64 supplement; elf_prstatus of
// <linux/elfcore.h>; QEMUCPUState of QEMU's target/i386/arch_dump.c.
package coredump

import (
	"bytes"
	"encoding/binary"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/vtl/x86emu"
)

// VP is a virtual processor as the file keeps it.
type VP struct {
	Registers    hcl.Registers
	Special      hcl.SpecialRegisters
	KernelGSBase uint64
}

// Range is a run of RAM, of whole pages.
type Range struct {
	GPA  x86.GPA
	Size uint64
}

// Layout is where what is in the file.
type Layout struct {
	// Head is the beginning of the file: headers and notes, up to the first page of RAM.
	Head []byte
	// Offsets is where each range lies in the file.
	Offsets []uint64
	// Size is that of the whole file.
	Size uint64
}

// MaxMappings bounds the runs of mapped memory: a program header each.
const MaxMappings = 1 << 14

// New lays out a file. Of mapped memory that is no RAM, and of that beyond MaxMappings,
// there is nothing in it.
func New(vps []VP, ram []Range, mapped []x86emu.Mapping) *Layout {
	notes := notesOf(vps)
	loads := loadsOf(ram, mapped)
	begin := headerBytes + programBytes*uint64(1+len(loads))
	head := up(begin+uint64(len(notes)), x86.PageSize)
	l := &Layout{Size: head}
	for _, r := range ram {
		l.Offsets = append(l.Offsets, l.Size)
		l.Size += r.Size
	}

	var b bytes.Buffer
	put(&b, &fileHeader{
		Ident: ident, Type: typeCore, Machine: machineX86_64, Version: version,
		ProgramOffset: headerBytes, Size: headerBytes, ProgramSize: programBytes, Programs: uint16(1 + len(loads)),
	})
	put(&b, &programHeader{Type: programNote, Offset: begin, FileSize: uint64(len(notes))})
	for _, x := range loads {
		put(&b, &programHeader{
			Type: programLoad, Flags: mayAll, Offset: l.Offsets[x.in] + x.within,
			Virtual: x.linear, Physical: uint64(ram[x.in].GPA) + x.within, FileSize: x.size, MemorySize: x.size,
		})
	}
	b.Write(notes)
	l.Head = append(b.Bytes(), make([]byte, int(head)-b.Len())...)
	return l
}

// load is a part of a range at a virtual address.
type load struct {
	in           int // the range
	within, size uint64
	linear       uint64
}

// loadsOf lists what gets a program header: first the ranges, at addresses that are the
// physical ones.
func loadsOf(ram []Range, mapped []x86emu.Mapping) (loads []load) {
	for i, r := range ram {
		loads = append(loads, load{i, 0, r.Size, uint64(r.GPA)})
	}
	for _, m := range mapped {
		for i, r := range ram {
			first, last := max(m.GPA, r.GPA), min(m.GPA+x86.GPA(m.Size), r.GPA+x86.GPA(r.Size))
			if first >= last {
				continue
			}
			if len(loads) == len(ram)+MaxMappings {
				return loads
			}
			loads = append(loads, load{i, uint64(first - r.GPA), uint64(last - first), m.Linear + uint64(first-m.GPA)})
		}
	}
	return loads
}

// put appends a structure.
func put(b *bytes.Buffer, v any) {
	_ = binary.Write(b, binary.LittleEndian, v) // a buffer takes everything, of fixed size
}

func up(n, to uint64) uint64 { return (n + to - 1) / to * to }
