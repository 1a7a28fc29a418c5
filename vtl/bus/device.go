// Package bus routes port I/O and memory-mapped I/O of the guest to the device
// that claims the address. Routes are fixed when the machine is built and only
// read afterwards, so that dispatch on the exit path takes no lock and
// allocates nothing.
package bus

// PIODevice answers port I/O inside the range it was mapped at. The offset is
// relative to the start of that range; size is 1, 2 or 4 bytes and never
// reaches past the range. Values travel in the low size bytes; the bus masks
// what a read returns. Methods may be called from several VPs at once.
type PIODevice interface {
	ReadPIO(offset uint16, size int) uint32
	WritePIO(offset uint16, size int, value uint32)
}

// MMIODevice answers memory-mapped I/O inside the range it was mapped at. The
// offset is relative to the start of that range; size is 1, 2, 4 or 8 bytes
// and never reaches past the range. Values travel in the low size bytes; the
// bus masks what a read returns. Methods may be called from several VPs at
// once.
type MMIODevice interface {
	ReadMMIO(offset uint64, size int) uint64
	WriteMMIO(offset uint64, size int, value uint64)
}

// Resetter is an optional capability of a device: Reset puts it into its
// power-on state when the guest resets. No VP runs while Reset is called.
type Resetter interface {
	Reset()
}
