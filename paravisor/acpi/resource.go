package acpi

// Resource descriptors (ACPI §6.4).
const (
	resIRQ         = 0x22 // small, 2 bytes: edge-triggered, active high
	resIO          = 0x47 // small, 7 bytes
	resEnd         = 0x79 // small, 1 byte
	resMemory32    = 0x86 // large: fixed 32-bit memory
	resDWord       = 0x87 // large: address space
	resWord        = 0x88
	resQWord       = 0x8a
	spaceMemory    = 0
	spaceIO        = 1
	spaceBus       = 2
	fixedWindow    = 0x0c // minimum and maximum are fixed; the device passes the range on
	memoryWritable = 0x01
	ioEntireRange  = 0x03 // ISA and other addresses alike
	decode16       = 1
)

// resources returns a resource template of the descriptors as _CRS wants it.
func resources(descriptors ...[]byte) term {
	var b []byte
	for _, d := range descriptors {
		b = append(b, d...)
	}
	// A checksum of 0 counts as right (ACPI §6.4.2.9).
	return buffer(append(b, resEnd, 0))
}

// ports describes n ports that a device decodes itself.
func ports(first uint16, n uint8) []byte {
	b := []byte{resIO, decode16}
	b = le.AppendUint16(b, first)
	b = le.AppendUint16(b, first)
	return append(b, 1, n)
}

// irq describes an ISA interrupt.
func irq(n uint8) []byte { return le.AppendUint16([]byte{resIRQ}, 1<<n) }

// memory32 describes memory that a device decodes itself.
func memory32(w Window) []byte {
	b := []byte{resMemory32, 9, 0, memoryWritable}
	b = le.AppendUint32(b, uint32(w.Base))
	return le.AppendUint32(b, uint32(w.Size))
}

// wordWindow describes ports or buses that a bridge passes on.
func wordWindow(space, flags byte, first, last uint16) []byte {
	b := []byte{resWord, 13, 0, space, fixedWindow, flags}
	for _, v := range []uint16{0, first, last, 0, last - first + 1} {
		b = le.AppendUint16(b, v)
	}
	return b
}

// dwordWindow describes memory below 4 GiB that a bridge passes on.
func dwordWindow(w Window) []byte {
	b := []byte{resDWord, 23, 0, spaceMemory, fixedWindow, memoryWritable}
	for _, v := range []uint64{0, uint64(w.Base), uint64(w.Base) + w.Size - 1, 0, w.Size} {
		b = le.AppendUint32(b, uint32(v))
	}
	return b
}

// qwordWindow describes memory anywhere that a bridge passes on.
func qwordWindow(w Window) []byte {
	b := []byte{resQWord, 43, 0, spaceMemory, fixedWindow, memoryWritable}
	for _, v := range []uint64{0, uint64(w.Base), uint64(w.Base) + w.Size - 1, 0, w.Size} {
		b = le.AppendUint64(b, v)
	}
	return b
}
