package layout

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"

	"keel/hcl/abi/x86"
)

const (
	noteEntry     = 18 // XEN_ELFNOTE_PHYS32_ENTRY
	elfHeader     = 64
	programHeader = 56

	// A shorter run of zero pages is not worth a segment of its own.
	zeroRunPages = 16
)

// segment is a run of pages: data, then zeros.
type segment struct {
	start       x86.GPA
	data        []byte
	zerosBehind int // pages
}

func (s *segment) end() x86.GPA {
	return s.start + x86.GPA(len(s.data)) + x86.GPA(s.zerosBehind)*x86.PageSize
}

// segments gathers the pages, and the parameter areas as zeros, into runs.
func (img *Image) segments() []segment {
	var out []segment
	var zero [x86.PageSize]byte
	add := func(g x86.GPA, data []byte) {
		n := len(out)
		if n == 0 || out[n-1].end() != g || data != nil && out[n-1].zerosBehind >= zeroRunPages {
			out = append(out, segment{start: g})
			n++
		}
		s := &out[n-1]
		// Zeros wait: at the end of a segment they need no bytes in the file.
		if data == nil && len(s.data) > 0 {
			s.zerosBehind++
			return
		}
		for ; s.zerosBehind > 0; s.zerosBehind-- {
			s.data = append(s.data, zero[:]...)
		}
		if data == nil {
			data = zero[:]
		}
		s.data = append(s.data, data...)
	}
	// The parameter areas are no pages of the image, but the loader must clear
	// them: they lie among the pages, in ascending order as these do.
	params := img.Info.params()
	for _, p := range img.Pages {
		for len(params) > 0 && params[0] < p.GPA {
			add(params[0], nil)
			params = params[1:]
		}
		add(p.GPA, p.Data)
	}
	for _, g := range params {
		add(g, nil)
	}
	return out
}

// PVH wraps the image into an ELF file whose note names the 32-bit entry, for
// loaders of the Xen PVH boot protocol such as QEMU's -kernel.
func (img *Image) PVH() ([]byte, error) {
	segs := img.segments()
	note := new(bytes.Buffer)
	name := "Xen\x00"
	for _, v := range []any{uint32(len(name)), uint32(8), uint32(noteEntry), []byte(name), uint64(img.Info.PVHEntry)} {
		if err := binary.Write(note, binary.LittleEndian, v); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInput, err)
		}
	}
	// All tables stand in front: header, program headers, note.
	count := len(segs) + 1
	noteAt := uint64(elfHeader + count*programHeader)
	hdr := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Entry: uint64(img.Info.PVHEntry), Phoff: elfHeader, Ehsize: elfHeader, Phentsize: programHeader, Phnum: uint16(count),
	}
	progs := []elf.Prog64{{
		Type: uint32(elf.PT_NOTE), Flags: uint32(elf.PF_R), Off: noteAt, Filesz: uint64(note.Len()), Memsz: uint64(note.Len()), Align: 4,
	}}
	// Segments start on page boundaries of the file, so that loaders may map it.
	at := (noteAt + uint64(note.Len()) + x86.PageSize - 1) &^ (x86.PageSize - 1)
	body := make([]byte, at)
	for _, s := range segs {
		progs = append(progs, elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W | elf.PF_X), Off: uint64(len(body)),
			Vaddr: uint64(s.start), Paddr: uint64(s.start), Filesz: uint64(len(s.data)), Memsz: uint64(s.end() - s.start), Align: x86.PageSize,
		})
		body = append(body, s.data...)
	}
	head, err := binary.Append(nil, binary.LittleEndian, &hdr)
	if err == nil {
		head, err = binary.Append(head, binary.LittleEndian, progs)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	copy(body, append(head, note.Bytes()...))
	return body, nil
}
