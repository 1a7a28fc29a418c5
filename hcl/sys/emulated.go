package sys

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// emulator is the signature of QEMU's processor emulation in the first leaf of
// hypervisors.
const (
	leafHypervisor = 0x40000000
	emulator       = "TCGTCGTCGTCG"
)

// Emulated reports whether QEMU emulates the processor that this process runs
// on.
func Emulated() bool {
	_, ebx, ecx, edx := CPUID(leafHypervisor, 0)
	var s [12]byte
	binary.LittleEndian.PutUint32(s[0:], ebx)
	binary.LittleEndian.PutUint32(s[4:], ecx)
	binary.LittleEndian.PutUint32(s[8:], edx)
	return string(s[:]) == emulator
}

// LeaveFirstCPU keeps the calling thread, and the processes that it starts, off
// the first CPU of a machine that QEMU emulates, unless that is the only one.
//
// There, whenever any CPU loads x87 state (FXRSTOR, XRSTOR, FLDENV), QEMU changes
// a flag of the first CPU without a lock, in the word that also says whether that
// CPU runs a guest and takes interrupts (cpu_clear_ignne and hflags2, in all
// versions up to 11.1). A first CPU that enters or leaves a guest at that moment
// loses its own change: the guest, or the kernel beneath it, dies soon after.
func LeaveFirstCPU() error {
	if !Emulated() {
		return nil
	}
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	cpus.Clear(0)
	if cpus.Count() == 0 {
		return nil
	}
	if err := unix.SchedSetaffinity(0, &cpus); err != nil {
		return fmt.Errorf("sched_setaffinity: %w", err)
	}
	return nil
}
