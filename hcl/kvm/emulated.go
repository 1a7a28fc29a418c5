package kvm

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"keel/hcl/sys"
)

// emulator is the signature of QEMU's processor emulation in the first leaf of
// hypervisors.
const (
	leafHypervisor = 0x40000000
	emulator       = "TCGTCGTCGTCG"
)

// emulated reports whether QEMU emulates the processor that this process runs
// on.
func emulated() bool {
	_, ebx, ecx, edx := sys.CPUID(leafHypervisor, 0)
	var s [12]byte
	binary.LittleEndian.PutUint32(s[0:], ebx)
	binary.LittleEndian.PutUint32(s[4:], ecx)
	binary.LittleEndian.PutUint32(s[8:], edx)
	return string(s[:]) == emulator
}

// leaveFirstCPU keeps the calling thread off the first CPU of a machine that QEMU
// emulates, unless that is the only one. There, whenever any CPU loads x87 state
// (FXRSTOR, XRSTOR, FLDENV), QEMU changes a flag of the first CPU without a lock,
// in the word that also says whether that CPU runs a guest, with interrupts held
// off or not (cpu_clear_ignne and hflags2, in all versions up to 11.1). A first CPU
// that is entering or leaving a guest at that moment loses its own change: the
// guest, or the kernel beneath it, dies soon after.
func leaveFirstCPU() error {
	if !emulated() {
		return nil
	}
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err != nil {
		return fmt.Errorf("%w: sched_getaffinity: %w", ErrVP, err)
	}
	cpus.Clear(0)
	if cpus.Count() == 0 {
		return nil
	}
	if err := unix.SchedSetaffinity(0, &cpus); err != nil {
		return fmt.Errorf("%w: sched_setaffinity: %w", ErrVP, err)
	}
	return nil
}
