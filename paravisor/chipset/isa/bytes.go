// Package isa holds what the chips of the ISA bus have in common: byte-wide
// registers behind wider accesses, and counters that derive from the clock.
package isa

// Read performs an access to byte-wide registers as the bus of a PC does: a
// word or dword access becomes consecutive byte accesses, lowest address first
// (ISA data bus steering, IEEE P996 §3). The function does not escape, so that
// a method value passed here costs no allocation.
func Read(offset uint16, size int, read func(offset uint16) uint8) uint32 {
	var v uint32
	for i := range size {
		v |= uint32(read(offset+uint16(i))) << (8 * i)
	}
	return v
}

// Write is the counterpart of Read.
func Write(offset uint16, size int, value uint32, write func(offset uint16, v uint8)) {
	for i := range size {
		write(offset+uint16(i), uint8(value>>(8*i)))
	}
}
