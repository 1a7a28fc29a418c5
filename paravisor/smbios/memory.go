package smbios

// total returns the RAM in bytes.
func (i Info) total() uint64 {
	var sum uint64
	for _, r := range i.RAM {
		sum += r.Size
	}
	return sum
}

// memoryArray is type 16 (DSP0134 §7.17): one array holds all RAM.
func memoryArray(info Info) *structure {
	const (
		other        = 1
		systemMemory = 3
		noECC        = 3
		extended     = 0x8000_0000 // KiB; from here on the wider field counts
	)
	s := newStructure(16, 0x17, handleArray)
	s.u8(0x04, other)
	s.u8(0x05, systemMemory)
	s.u8(0x06, noECC)
	if capacity := info.total() / kib; capacity < extended {
		s.u32(0x07, uint32(capacity))
	} else {
		s.u32(0x07, extended)
		s.u64(0x0f, info.total())
	}
	s.u16(0x0b, noError)
	s.u16(0x0d, 1) // devices
	return s
}

// memoryDevice is type 17 (DSP0134 §7.18): one device fills the array.
func memoryDevice(info Info) *structure {
	const (
		unknownWidth = 0xffff
		dimm         = 9
		ram          = 7
		otherDetail  = 1 << 1
		extended     = 0x7fff // MiB; from here on the wider field counts
	)
	s := newStructure(17, 0x28, handleDevice)
	s.u16(0x04, handleArray)
	s.u16(0x06, noError)
	s.u16(0x08, unknownWidth)
	s.u16(0x0a, unknownWidth)
	if size := info.total() / mib; size < extended {
		s.u16(0x0c, uint16(size))
	} else {
		s.u16(0x0c, extended)
		s.u32(0x1c, uint32(size))
	}
	s.u8(0x0e, dimm)
	s.text(0x10, "DIMM 0")
	s.u8(0x12, ram)
	s.u16(0x13, otherDetail)
	s.text(0x17, manufacturer)
	return s
}

// mapped is type 19 (DSP0134 §7.20): where a part of the array appears. The
// last KiB is inclusive.
func mapped(r Range, i int) *structure {
	s := newStructure(19, 0x1f, handleMapped+uint16(i))
	s.u32(0x04, uint32(r.Start/kib))
	s.u32(0x08, uint32((uint64(r.Start)+r.Size)/kib-1))
	s.u16(0x0c, handleArray)
	s.u8(0x0e, 1) // devices that form a row
	return s
}
