package sys

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// RDTSC reads the time stamp counter of the CPU that runs the caller.
func RDTSC() uint64

// CPUID asks the CPU that runs the caller what it is (Intel SDM vol. 2, CPUID).
func CPUID(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// InB reads a byte from an I/O port.
// Preconditions: AllowPorts has granted the port to the calling thread.
func InB(port uint16) uint8

// InL reads four bytes from an I/O port. Preconditions as for InB.
func InL(port uint16) uint32

// OutB writes a byte to an I/O port. Preconditions as for InB.
func OutB(port uint16, value uint8)

// OutW writes two bytes to an I/O port. Preconditions as for InB.
func OutW(port, value uint16)

// OutL writes four bytes to an I/O port. Preconditions as for InB.
func OutL(port uint16, value uint32)

// AllowPorts grants the calling thread count I/O ports from first on
// (ioperm(2), needs CAP_SYS_RAWIO).
// Preconditions: the goroutine is locked to its thread.
func AllowPorts(first uint16, count int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_IOPERM, uintptr(first), uintptr(count), 1); errno != 0 {
		return fmt.Errorf("ioperm %#x+%d: %w", first, count, errno)
	}
	return nil
}
