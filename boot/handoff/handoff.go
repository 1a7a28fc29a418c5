package handoff

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// The setup_data node (Linux Documentation/arch/x86/boot.rst, "setup_data")
// that carries the handoff. boot/shim/src/shim.h has the same numbers; a test
// of boot/shim compares them.
const (
	SetupDataType = 0x4c45454b         // "KEEL" in memory; far above SETUP_ENUM_MAX, bit 31 (SETUP_INDIRECT) clear
	Magic         = 0x444e41484c45454b // "KEELHAND" in memory
	Version       = 1
	MaxRanges     = 128 // as many as boot_params has E820 entries
	HeaderBytes   = 120
	RangeBytes    = 24
	MaxBytes      = HeaderBytes + MaxRanges*RangeBytes
	MaxVPs        = 256 // the shim refuses more than the VTL2 kernel could ever start
)

// Errors of Parse and Read. ErrNotFound means that the kernel was not entered
// through the shim, the others that the node is not what this version writes.
var (
	ErrNotFound  = errors.New("no handoff from the boot shim")
	ErrTruncated = errors.New("handoff truncated")
	ErrMagic     = errors.New("handoff has the wrong magic number")
	ErrVersion   = errors.New("handoff is of an unknown version")
	ErrInvalid   = errors.New("handoff contradicts itself")
)

// Platform says which isolation the image was loaded for; the numbers are
// those of IGVM's IgvmPlatformType.
type Platform uint32

// The platforms that Keel knows.
const (
	PlatformNative Platform = 0
	PlatformVSM    Platform = 1
	PlatformSNP    Platform = 2
	PlatformTDX    Platform = 3
)

// Flags are the bits of the image's measured policy.
type Flags uint32

// FlagDebug marks a debug image: shell, host's command line appended.
const FlagDebug Flags = 1 << 0

const knownFlags = FlagDebug

// MemoryType is an E820 type.
type MemoryType uint32

// The types that the shim emits; whatever the host called otherwise is reserved.
const (
	MemoryRAM      MemoryType = 1
	MemoryReserved MemoryType = 2
)

// Span is a range of guest physical addresses, in bytes.
type Span struct {
	Start uint64 `json:"start"`
	Size  uint64 `json:"size"`
}

// End returns the first address behind the span.
func (s Span) End() uint64 { return s.Start + s.Size }

// Range is one entry of the VM's memory map, in bytes.
type Range struct {
	Span
	Type MemoryType `json:"type"`
}

// Handoff is what the shim tells the paravisor: the VM as the host described
// it, checked by the shim, and the image as it was measured.
type Handoff struct {
	Platform Platform
	Flags    Flags
	VPs      uint32   // virtual processors that the host intends to start
	RAMBytes uint64   // sum of all RAM ranges of Memory
	Control  Span     // shim, page tables, parameter areas, boot_params: free once Linux runs, but for this node
	Kernel   Span     // what the VTL2 kernel needs to unpack itself
	Initrd   Span     // initramfs of the image; Linux frees it
	Digest   [32]byte // SHA-256 over the image's pages, see boot/layout
	Memory   []Range  // sorted, disjoint, page granular
}

// Debug reports whether the image is a debug image.
func (h *Handoff) Debug() bool { return h.Flags&FlagDebug != 0 }

// header is the fixed part of the node's data.
type header struct {
	Magic                   uint64
	Version, Bytes          uint32
	Platform, Flags         uint32
	VPs, Ranges             uint32
	RAMBytes                uint64
	Control, Kernel, Initrd Span
	Digest                  [32]byte
}

// rawRange is an entry of the memory map behind the header.
type rawRange struct {
	Span
	Type, Zero uint32
}

// Parse decodes the data of a setup_data node. It accepts exactly what the shim
// of this version writes: trailing bytes, unknown flags, unsorted or
// overlapping ranges are errors.
func Parse(b []byte) (*Handoff, error) {
	var hd header
	if len(b) < HeaderBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrTruncated, len(b))
	}
	if _, err := binary.Decode(b, binary.LittleEndian, &hd); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTruncated, err)
	}
	switch {
	case hd.Magic != Magic:
		return nil, fmt.Errorf("%w: %#x", ErrMagic, hd.Magic)
	case hd.Version != Version:
		return nil, fmt.Errorf("%w: %d", ErrVersion, hd.Version)
	case hd.Ranges == 0 || hd.Ranges > MaxRanges:
		return nil, fmt.Errorf("%w: %d memory ranges", ErrInvalid, hd.Ranges)
	case int(hd.Bytes) != HeaderBytes+int(hd.Ranges)*RangeBytes:
		return nil, fmt.Errorf("%w: %d bytes with %d ranges", ErrInvalid, hd.Bytes, hd.Ranges)
	case len(b) < int(hd.Bytes):
		return nil, fmt.Errorf("%w: %d of %d bytes", ErrTruncated, len(b), hd.Bytes)
	case len(b) > int(hd.Bytes):
		return nil, fmt.Errorf("%w: %d bytes behind the end", ErrInvalid, len(b)-int(hd.Bytes))
	case hd.VPs == 0 || hd.VPs > MaxVPs:
		return nil, fmt.Errorf("%w: %d VPs", ErrInvalid, hd.VPs)
	case Flags(hd.Flags)&^knownFlags != 0:
		return nil, fmt.Errorf("%w: flags %#x", ErrInvalid, hd.Flags)
	}
	h := &Handoff{
		Platform: Platform(hd.Platform), Flags: Flags(hd.Flags), VPs: hd.VPs, RAMBytes: hd.RAMBytes,
		Control: hd.Control, Kernel: hd.Kernel, Initrd: hd.Initrd, Digest: hd.Digest,
	}
	raw := make([]rawRange, hd.Ranges)
	if err := binary.Read(bytes.NewReader(b[HeaderBytes:]), binary.LittleEndian, raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTruncated, err)
	}
	for _, s := range []Span{h.Control, h.Kernel, h.Initrd} {
		if s.End() < s.Start {
			return nil, fmt.Errorf("%w: span of %#x bytes at %#x", ErrInvalid, s.Size, s.Start)
		}
	}
	if err := h.setMemory(raw); err != nil {
		return nil, err
	}
	return h, nil
}

// setMemory checks the memory map and adds up the RAM.
func (h *Handoff) setMemory(raw []rawRange) error {
	var ram, last uint64
	for i, r := range raw {
		end := r.End()
		switch t := MemoryType(r.Type); {
		case r.Size == 0 || end < r.Start || r.Start < last:
			return fmt.Errorf("%w: range %d at %#x overlaps, wraps or is empty", ErrInvalid, i, r.Start)
		case r.Zero != 0 || t != MemoryRAM && t != MemoryReserved:
			return fmt.Errorf("%w: range %d of type %d", ErrInvalid, i, r.Type)
		case t == MemoryRAM:
			ram += r.Size
		}
		last = end
		h.Memory = append(h.Memory, Range{Span: r.Span, Type: MemoryType(r.Type)})
	}
	if ram != h.RAMBytes {
		return fmt.Errorf("%w: %d bytes of RAM in the map, %d in the header", ErrInvalid, ram, h.RAMBytes)
	}
	return nil
}
