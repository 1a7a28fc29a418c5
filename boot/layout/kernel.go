// Package layout composes an image: it places shim, page tables, parameter
// areas, kernel and initramfs in guest physical memory, and emits the same
// pages as an IGVM file or as a PVH ELF.
//
// Specifications: Linux Documentation/arch/x86/boot.rst (boot protocol 2.12 on,
// 64-bit entry); igvm_defs; Xen public headers (PVH notes).
package layout

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"keel/hcl/abi/x86"
)

// Errors of the package, by stage.
var (
	ErrKernel       = errors.New("not a bzImage that can be booted")
	ErrArchitecture = errors.New("kernel for another architecture")
	ErrInput        = errors.New("image cannot be composed")
	ErrForeign      = errors.New("IGVM file is not an image of Keel")
	ErrDigest       = errors.New("image's pages do not match its digest")
)

// Offsets into a bzImage and values there (boot.rst, "The Real-Mode Kernel Header").
const (
	setupStart   = 0x1f1 // setup_sects, first byte of the setup header
	setupMagic   = 0x202
	setupEndByte = 0x201
	setupMax     = 160 // room in Info.SetupHeader

	hdrS            = 0x53726448
	protocolMin     = 0x020c // xloadflags
	xlfKernel64     = 1 << 0
	loadedHigh      = 1 << 0
	sectorBytes     = 512
	paragraphBytes  = 16
	cmdlineMax      = 2047 // COMMAND_LINE_SIZE less the NUL
	alignmentMin    = x86.LargePageSize
	alignmentMax    = 1 << 30
	arm64MagicAt    = 0x38
	arm64Magic      = "ARM\x64"
	elfMachineAt    = 18
	elfMachineX8664 = 62
)

// Kernel is what the boot protocol says about a bzImage.
type Kernel struct {
	SetupHeader []byte  // from setupStart to its end
	Payload     []byte  // the protected-mode part; its 64-bit entry is at 0x200
	Preferred   x86.GPA // pref_address: never unpacked below it
	Alignment   uint64  // kernel_alignment, bytes
	InitSize    uint64  // bytes from the run address that unpacking needs
	Relocatable bool
	CmdlineMax  int // bytes without the NUL
}

// ParseKernel checks a bzImage. The slices of the result alias b.
func ParseKernel(b []byte) (*Kernel, error) {
	le := binary.LittleEndian
	switch {
	case len(b) > arm64MagicAt+4 && string(b[arm64MagicAt:arm64MagicAt+4]) == arm64Magic:
		return nil, fmt.Errorf("%w: arm64 Image", ErrArchitecture)
	case len(b) > elfMachineAt+2 && bytes.HasPrefix(b, []byte("\x7fELF")):
		if m := le.Uint16(b[elfMachineAt:]); m != elfMachineX8664 {
			return nil, fmt.Errorf("%w: ELF machine %d", ErrArchitecture, m)
		}
		return nil, fmt.Errorf("%w: it is an ELF file", ErrKernel)
	case len(b) < 2*sectorBytes || le.Uint32(b[setupMagic:]) != hdrS:
		return nil, fmt.Errorf("%w: no setup header", ErrKernel)
	case le.Uint16(b[0x206:]) < protocolMin:
		return nil, fmt.Errorf("%w: boot protocol %#x", ErrKernel, le.Uint16(b[0x206:]))
	case b[0x211]&loadedHigh == 0:
		return nil, fmt.Errorf("%w: a zImage", ErrKernel)
	case le.Uint16(b[0x236:])&xlfKernel64 == 0:
		return nil, fmt.Errorf("%w: 32-bit kernel", ErrArchitecture)
	}
	// From here on b is a 64-bit bzImage; what remains is whether it is whole.
	sectors := int(b[setupStart])
	if sectors == 0 {
		sectors = 4 // boot.rst: zero means four
	}
	start := (sectors + 1) * sectorBytes
	size := uint64(le.Uint32(b[0x1f4:])) * paragraphBytes
	// boot.rst: the header ends where the jump at its beginning lands.
	end := setupMagic + int(b[setupEndByte])
	if uint64(start)+size > uint64(len(b)) || size <= 0x200 {
		return nil, fmt.Errorf("%w: truncated, %d bytes of %d", ErrKernel, len(b), uint64(start)+size)
	}
	if end < 0x264 || end-setupStart > setupMax || end > start {
		return nil, fmt.Errorf("%w: setup header ends at %#x", ErrKernel, end)
	}
	k := &Kernel{
		SetupHeader: b[setupStart:end], Payload: b[start : uint64(start)+size],
		Preferred: x86.GPA(le.Uint64(b[0x258:])), Alignment: uint64(le.Uint32(b[0x230:])),
		InitSize: uint64(le.Uint32(b[0x260:])), Relocatable: b[0x234] != 0,
		CmdlineMax: min(int(le.Uint32(b[0x238:])), cmdlineMax),
	}
	if k.Alignment < alignmentMin || k.Alignment > alignmentMax || k.Alignment&(k.Alignment-1) != 0 ||
		uint64(k.Preferred)%k.Alignment != 0 || k.InitSize < size || k.Preferred >= mapped {
		return nil, fmt.Errorf("%w: alignment %#x, preferred address %#x, init size %#x", ErrKernel, k.Alignment, k.Preferred, k.InitSize)
	}
	return k, nil
}
