package sys

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Registers of devices are mapped into this process. The kernel takes such a
// mapping away, at any moment, when the device stops decoding memory or is gone;
// an access then raises SIGBUS, and SIGSEGV after Seal. Go ends the process on
// either, unless the goroutine has asked for a panic instead (SetPanicOnFault). The
// functions here ask for it around each access and take the panic: it belongs to a
// goroutine, drivers have many, and none of them has to know. That costs about 20 ns
// without a fault (BenchmarkRegister); an access that leaves the VM takes a
// thousand and more.

// ReadRegister32 loads four bytes of a device's registers with one instruction. It
// reports false when there is nothing behind the mapping any more.
// Preconditions: mapping was made by mmap; offset is a multiple of 4.
func ReadRegister32(mapping []byte, offset int) (value uint32, ok bool) {
	p := unsafe.Pointer(&mapping[offset : offset+4][0])
	defer caught(debug.SetPanicOnFault(true), &ok)
	return load32(p), true
}

// ReadRegister64 is ReadRegister32 for eight bytes.
// Preconditions: mapping was made by mmap; offset is a multiple of 8.
func ReadRegister64(mapping []byte, offset int) (value uint64, ok bool) {
	p := unsafe.Pointer(&mapping[offset : offset+8][0])
	defer caught(debug.SetPanicOnFault(true), &ok)
	return load64(p), true
}

// WriteRegister32 stores four bytes to a device's registers with one instruction.
// What was stored to memory before, the device sees before (x86 keeps stores in
// order). Result and preconditions as for ReadRegister32.
func WriteRegister32(mapping []byte, offset int, value uint32) (ok bool) {
	p := unsafe.Pointer(&mapping[offset : offset+4][0])
	defer caught(debug.SetPanicOnFault(true), &ok)
	store32(p, value)
	return true
}

// WriteRegister64 is WriteRegister32 for eight bytes.
// Preconditions as for ReadRegister64.
func WriteRegister64(mapping []byte, offset int, value uint64) (ok bool) {
	p := unsafe.Pointer(&mapping[offset : offset+8][0])
	defer caught(debug.SetPanicOnFault(true), &ok)
	store64(p, value)
	return true
}

// caught is deferred: it puts the goroutine's setting back, turns a fault into false
// and lets every other panic go on.
func caught(before bool, ok *bool) {
	debug.SetPanicOnFault(before)
	switch e := recover().(type) {
	case nil:
	case interface { // runtime.Error of a memory fault
		runtime.Error
		Addr() uintptr
	}:
		*ok = false
	default:
		panic(e)
	}
}

//go:noescape
func load32(p unsafe.Pointer) uint32

//go:noescape
func load64(p unsafe.Pointer) uint64

//go:noescape
func store32(p unsafe.Pointer, value uint32)

//go:noescape
func store64(p unsafe.Pointer, value uint64)

// Seal takes what is behind a mapping away, at once and for all threads, and leaves
// its addresses reserved: an access that is under way hits the device or faults, but
// never memory that has come to lie there. unix.Munmap frees the addresses later.
// Preconditions: mapping was made by unix.Mmap.
func Seal(mapping []byte) error {
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(unsafe.SliceData(mapping)), uintptr(len(mapping)), unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("sealing a mapping of %d bytes: %w", len(mapping), err)
	}
	return nil
}
