package guestload

import (
	"bytes"
	"fmt"

	"keel/boot/handoff"
	"keel/hcl/abi/x86"
)

func badInitrd(remedy, format string, args ...any) error {
	return &handoff.Failure{
		Outcome: handoff.OutcomeBadInitrd,
		Cause:   "guest initrd: " + fmt.Sprintf(format, args...),
		Remedy:  remedy,
	}
}

const remedyInitrd = "name a cpio archive of the newc format, compressed or not"

// checkInitrd recognizes what Linux unpacks as an initramfs.
func checkInitrd(head []byte) error {
	switch {
	case len(head) == 0:
		return badInitrd(remedyInitrd, "the file is empty")
	case isCPIO(head) || compression(head) != "":
		return nil
	}
	return badInitrd(remedyInitrd, "the file begins with %#x, which is neither cpio nor a known compression", head[:min(len(head), 6)])
}

func isCPIO(head []byte) bool {
	return bytes.HasPrefix(head, []byte(cpioNewc)) || bytes.HasPrefix(head, []byte(cpioCRC))
}

// Signatures of cpio (Linux Documentation/driver-api/early-userspace/buffer-format.rst).
const (
	cpioNewc = "070701"
	cpioCRC  = "070702"
)

// PlaceInitrd checks the initrd whose first bytes are head and whose size is
// size bytes, and places it as high as the kernel accepts it in the RAM below
// 4 GiB. It fails with OutcomeBadInitrd or OutcomeTooLittleMemory.
func (k *Kernel) PlaceInitrd(head []byte, size uint64) (Segment, error) {
	if err := checkInitrd(head[:min(uint64(len(head)), size)]); err != nil {
		return Segment{}, err
	}
	top := min(k.mem.LowRAM, k.initrdMax+1)
	if room := top - min(top, uint64(k.end)); size > room || (top-size)&^(x86.PageSize-1) < uint64(k.end) {
		need := uint64(k.end) + (size+x86.PageSize-1)&^(x86.PageSize-1)
		if size > maxRAMBelow4G || need > k.initrdMax+1 {
			return Segment{}, badInitrd("make it smaller", "%d bytes do not fit between the kernel and %#x, its limit", size, k.initrdMax)
		}
		return Segment{}, tooLittle(k.mem, need, "the kernel needs memory up to %#x and the initrd %d bytes above", k.end, size)
	}
	k.initrd = Segment{Size: size, GPA: x86.GPA((top - size) &^ (x86.PageSize - 1))}
	return k.initrd, nil
}
