// Package pci is the interface to a PCI function that the host assigned to the
// VM and that Keel drives in user space. The real functions are those of
// hcl/vfio; drivers' tests bring hostile ones.
package pci

import "errors"

// Errors of functions. What fails wraps one of them and adds its cause.
var (
	// ErrGone says that the function was unplugged.
	ErrGone = errors.New("PCI function is gone")
	// ErrClosed says that Close was called.
	ErrClosed = errors.New("PCI function is closed")
	// ErrLimit says that the function or the machine has no more of what was
	// asked for.
	ErrLimit = errors.New("not enough of it")
)

// ID is what a function is, from its configuration header.
type ID struct {
	Vendor, Device uint16
	Class          uint32 // base class, subclass, interface: 24 bits
	Address        string // where it sits, as 0000:00:03.0, for messages
}

// Function is an assigned function. All methods may be called from any goroutine.
type Function interface {
	ID() ID
	// Registers maps a base address register that addresses memory.
	Registers(bar int) (Registers, error)
	// Interrupts makes n MSI-X interrupts, vectors 0 to n-1, replacing those that
	// were made before. ErrLimit when the function has fewer.
	Interrupts(n int) ([]Interrupt, error)
	// MaxInterrupts is how many MSI-X vectors the function has.
	MaxInterrupts() int
	// Allocate returns zeroed memory that the function can reach, at least size
	// bytes, in whole pages. It lives as long as the function.
	Allocate(size int) (Buffer, error)
	// Master lets the function reach memory, or forbids it.
	Master(on bool) error
	// Reset resets the function, where it can be reset alone.
	Reset() error
	// Gone is closed when the host takes the function away.
	Gone() <-chan struct{}
	// Close stops the function and gives it back. Nothing of it is used any
	// more.
	Close() error
}

// Registers are the memory-mapped registers of a function, in its own byte order:
// little-endian. An access is one load or store of exactly that size. Offsets are
// multiples of the size; what lies outside of the registers, or belongs to a
// function that is gone, reads as all ones and is written in vain.
type Registers interface {
	Size() int // bytes
	Read32(offset int) uint32
	Read64(offset int) uint64
	Write32(offset int, value uint32)
	Write64(offset int, value uint64)
}

// Interrupt is one MSI-X vector.
type Interrupt interface {
	// Wait returns when the function has signalled since the last call, or with
	// an error when it is gone or closed. One goroutine waits at a time.
	Wait() error
}

// Buffer is memory that both Keel and the function reach. The function may change
// it at any time: copy, then check. The two views are of the same memory; Words is
// for what must be loaded at once, with sync/atomic.
type Buffer struct {
	Bytes []byte
	Words []uint32
	DMA   uint64 // address for the function; page-aligned
}
