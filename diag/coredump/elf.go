package coredump

import (
	"bytes"
	"encoding/binary"
)

// Of ELF (System V ABI, chapter 4, ELF header, and chapter 5, program header; Linux
// include/uapi/linux/elf.h).
const (
	ehSize = 64
	phSize = 56

	etCore     = 4
	emX8664    = 62
	ptLoad     = 1
	ptNote     = 4
	pfX        = 1
	pfW        = 2
	pfR        = 4
	ntPRStatus = 1
	ntPRPSInfo = 3
	ntAuxv     = 6
	ntFile     = 0x46494c45

	pageSize = 4096
)

// ident is e_ident: 64 bits, little-endian, version 1, System V.
var ident = [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}

type elfHeader struct {
	Ident                                [16]byte
	Type, Machine                        uint16
	Version                              uint32
	Entry, PHOff, SHOff                  uint64
	Flags                                uint32
	EHSize, PHEntSize, PHNum             uint16
	SHEntSize, SHNum, SectionNameSection uint16
}

type programHeader struct {
	Type, Flags                             uint32
	Offset, Address, Physical, Size, Memory uint64
	Align                                   uint64
}

// headers returns all that comes before the first area's bytes.
func headers(areas []area, notes []byte) []byte {
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) } // to memory: never fails
	at := uint64(ehSize + phSize*(1+len(areas)))
	put(elfHeader{
		Ident: ident, Type: etCore, Machine: emX8664, Version: 1, PHOff: ehSize,
		EHSize: ehSize, PHEntSize: phSize, PHNum: uint16(1 + len(areas)),
	})
	put(programHeader{Type: ptNote, Offset: at, Size: uint64(len(notes)), Align: 4})
	at = (at + uint64(len(notes)) + pageSize - 1) &^ (pageSize - 1)
	data := at
	for _, a := range areas {
		size := a.end - a.start
		h := programHeader{Type: ptLoad, Flags: a.flags, Offset: at, Address: a.start, Memory: size, Align: pageSize}
		if a.dumped {
			h.Size = size
			at += size
		}
		put(h)
	}
	b.Write(notes)
	b.Write(make([]byte, data-uint64(b.Len())))
	return b.Bytes()
}

// appendNote appends a note of the kernel's own kinds.
func appendNote(b []byte, kind uint32, desc []byte) []byte {
	const name = "CORE\x00\x00\x00\x00" // with its zero, and padded to 4 bytes
	b = binary.LittleEndian.AppendUint32(b, 5)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = append(append(b, name...), desc...)
	return append(b, make([]byte, -len(desc)&3)...)
}
