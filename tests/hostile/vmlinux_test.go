package hostile

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// Where a program and its surroundings lie in guest memory. The programs know
// these numbers.
const (
	addrProgram  = 0x1000000
	addrCommon   = 0x1010000
	addrIDT      = 0x1020000
	addrIDTR     = 0x1021000
	addrScratch  = 0x1030000 // zero at the start; the stack grows down to it
	scratchBytes = 0x10000

	selectorCode = 0x10 // of the 64-bit boot protocol
)

// Offsets from addrCommon. Programs jump to the first.
const (
	offSurvived = 0
	offIgnore   = 0x100 + iota*0x40
	offSkip2
	offSkip3
	offSkip3Plain
	offSkip4Plain
	offAckAPIC
	offAckPIC
	offUnwanted // ends the program with a triple fault
	commonBytes
)

var common = map[int][]byte{
	offSurvived: survived, offIgnore: ignore, offSkip2: skip2, offSkip3: skip3, offSkip3Plain: skip3Plain, offSkip4Plain: skip4Plain,
	offAckAPIC: ackAPIC, offAckPIC: ackPIC,
	offUnwanted: {0x0f, 0x0b}, // ud2, which nobody handles
}

// Vectors that programs handle otherwise than by ignoring them.
const (
	vectorUD, vectorGP = 6, 13
	vectorPIC          = 0x20 // 16 of them
	vectorAPIC         = 0x40
)

// Faults that end a program which does not handle them: to ignore them would be
// to take them again for ever.
var faults = []int{0, 1, 3, 4, 5, 7, 8, 10, 11, 12, 14, 16, 17, 18, 19}

// program is a guest: code at addrProgram with handlers of its own.
type program struct {
	code     []byte
	handlers map[int]int // offset from addrCommon by vector
}

// segment is a part of an ELF file in memory.
type segment struct {
	addr   uint64
	data   []byte
	memory int // bytes; the rest is zero
}

// vmlinux returns the program as an ELF file that passes for a Linux kernel: it
// is linked where Linux is.
func (p *program) vmlinux() []byte {
	const (
		kernelMap            = 0xffffffff80000000
		headerSize, progSize = 64, 56
	)
	code := append(bytes.Clone(prelude), p.code...)
	routines := make([]byte, commonBytes)
	for offset, routine := range common {
		copy(routines[offset:], routine)
	}
	tables := p.tables()
	segments := []segment{
		{addrProgram, code, len(code)},
		{addrCommon, routines, len(routines)},
		{addrIDT, tables, len(tables)},
		{addrScratch, nil, scratchBytes},
	}
	le := binary.LittleEndian
	header := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	header = le.AppendUint16(header, 2)  // ET_EXEC
	header = le.AppendUint16(header, 62) // EM_X86_64
	header = le.AppendUint32(header, 1)
	header = le.AppendUint64(header, addrProgram)
	header = le.AppendUint64(header, headerSize)
	header = append(header, make([]byte, 12)...) // no sections, no flags
	header = le.AppendUint16(header, headerSize)
	header = le.AppendUint16(header, progSize)
	header = le.AppendUint16(header, uint16(len(segments)))
	header = append(header, make([]byte, 6)...)
	var data []byte
	for _, s := range segments {
		header = le.AppendUint32(header, 1) // PT_LOAD
		header = le.AppendUint32(header, 7)
		header = le.AppendUint64(header, uint64(headerSize+progSize*len(segments)+len(data)))
		header = le.AppendUint64(header, kernelMap+s.addr)
		header = le.AppendUint64(header, s.addr)
		header = le.AppendUint64(header, uint64(len(s.data)))
		header = le.AppendUint64(header, uint64(s.memory))
		header = le.AppendUint64(header, 0x1000)
		data = append(data, s.data...)
	}
	return append(header, data...)
}

// tables returns the table of handlers and what LIDT takes.
func (p *program) tables() []byte {
	const gates, gateSize = 256, 16
	le := binary.LittleEndian
	b := make([]byte, addrIDTR-addrIDT)
	gate := func(vector, offset int) {
		const interruptGate = 0x8e
		g, handler := b[vector*gateSize:], uint64(addrCommon+offset)
		le.PutUint16(g, uint16(handler))
		le.PutUint16(g[2:], selectorCode)
		g[5] = interruptGate
		le.PutUint16(g[6:], uint16(handler>>16))
		le.PutUint32(g[8:], uint32(handler>>32))
	}
	for v := range gates {
		gate(v, offIgnore)
	}
	for _, v := range append(faults, vectorUD, vectorGP) {
		clear(b[v*gateSize:][:gateSize])
	}
	for v, offset := range p.handlers {
		gate(v, offset)
	}
	b = le.AppendUint16(b, gates*gateSize-1)
	return le.AppendUint64(b, addrIDT)
}

// write makes a file of the program.
func (p *program) write(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(path, p.vmlinux(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// with returns the code with the four bytes at an offset replaced by a number.
func with(code []byte, offset int, n uint32) []byte {
	code = bytes.Clone(code)
	binary.LittleEndian.PutUint32(code[offset:], n)
	return code
}
