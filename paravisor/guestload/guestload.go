// Package guestload brings a Linux guest to its first instruction: it checks
// the kernel and the initrd, says which part of which file belongs where in
// guest memory, and builds what the 64-bit boot protocol asks of a boot loader.
//
// The payload is large and arrives by DMA, so the work has two phases. First
// PlanKernel and Kernel.PlaceInitrd look at the head of each file and return
// segments; the caller reads every segment straight into guest memory. Then
// Kernel.Finish writes the boot parameters and returns the registers of the
// bootstrap VP. A plan can be used again when the guest resets.
//
// Files are hostile. Every error is a *handoff.Failure, except those of Memory.
//
// Specifications: Linux Documentation/arch/x86/boot.rst (protocol 2.12 and
// later, 64-bit entry) and zero-page.rst; System V ABI, chapter 4 and its
// AMD64 supplement (ELF).
package guestload

import (
	"fmt"

	"keel/boot/handoff"
	"keel/hcl/abi/x86"
)

// HeadSize is how many bytes of a file, from its start, the planning functions
// want to see. A shorter file is passed whole.
const HeadSize = 64 << 10

// Memory is the guest memory that Finish writes to.
type Memory interface {
	// WriteAt copies p to guest memory at gpa. It fails when the range is not RAM.
	WriteAt(gpa x86.GPA, p []byte) error
}

// Segment is a part of a file and its place in guest memory.
type Segment struct {
	Offset uint64  // in the file, in bytes
	Size   uint64  // in bytes
	GPA    x86.GPA // where the first byte goes
}

// Kernel is a plan for one kernel file.
type Kernel struct {
	Segments []Segment // to be read into guest memory before Finish

	name       string   // "bzImage" or "vmlinux"
	zero       []Region // memory that the kernel expects to be zero
	entry      x86.GPA  // 64-bit entry point
	start, end x86.GPA  // memory that the kernel uses before it reads the memory map
	header     []byte   // setup header, from offset 0x1f1 of the boot parameters
	initrdMax  uint64   // highest address that the initrd may occupy
	maxCommand uint64   // longest command line in bytes, without its NUL
	mem        Map
	initrd     Segment
}

// PlanKernel checks the kernel file whose first bytes are head (HeadSize of
// them, or all) and whose size is size bytes, and places it in m. It fails
// with OutcomeBadKernel or OutcomeTooLittleMemory.
func PlanKernel(head []byte, size uint64, m Map) (*Kernel, error) {
	k, err := parseKernel(head, size)
	if err != nil {
		return nil, err
	}
	if uint64(k.end) > m.LowRAM {
		return nil, tooLittle(m, uint64(k.end), "the kernel needs memory up to %#x", k.end)
	}
	k.mem = m
	return k, nil
}

// parseKernel recognizes the format and reads the headers.
func parseKernel(head []byte, size uint64) (*Kernel, error) {
	if len(head) > HeadSize {
		head = head[:HeadSize]
	}
	if want := min(size, HeadSize); uint64(len(head)) < want {
		return nil, badKernel("copy the file again", "only %d of its first %d bytes can be read", len(head), want)
	}
	if err := foreign(head); err != nil {
		return nil, err
	}
	if isELF(head) {
		return parseVMLinux(head, size)
	}
	return parseBzImage(head, size)
}

func badKernel(remedy, format string, args ...any) error {
	return &handoff.Failure{
		Outcome: handoff.OutcomeBadKernel,
		Cause:   "guest kernel: " + fmt.Sprintf(format, args...),
		Remedy:  remedy,
	}
}

// tooLittle reports that the guest needs RAM up to the address need.
func tooLittle(m Map, need uint64, format string, args ...any) error {
	const mib = 1 << 20
	return &handoff.Failure{
		Outcome: handoff.OutcomeTooLittleMemory,
		Cause:   fmt.Sprintf("guest memory: "+format+", and the guest has %d MiB below 4 GiB", append(args, m.LowRAM/mib)...),
		Remedy:  fmt.Sprintf("give the guest at least %d MiB", (need+2*mib-1)/(2*mib)*2),
	}
}
