// Package igvm reads and writes Independent Guest Virtual Machine files: the
// list of commands by which a host builds the first memory and registers of a
// VM.
//
// Specification: igvm_defs of github.com/microsoft/igvm, format versions 1 and 2.
// Everything in a file is little-endian.
package igvm

import (
	"errors"
	"fmt"
)

// Errors of Read and Write. Each says what is wrong with the file as a whole;
// the text behind it says where.
var (
	ErrNotIGVM       = errors.New("not an IGVM file")
	ErrVersion       = errors.New("IGVM format version not supported")
	ErrArchitecture  = errors.New("IGVM file for another architecture")
	ErrTruncated     = errors.New("IGVM file truncated")
	ErrChecksum      = errors.New("IGVM header checksum is wrong")
	ErrCorrupt       = errors.New("IGVM file corrupt")
	ErrUnknownHeader = errors.New("IGVM file needs a header that is unknown here")
)

// Sizes of the format, in bytes.
const (
	PageSize      = 4096
	LargePageSize = 2 << 20

	magic          = 0x4d564749 // "IGVM"
	fixedHeaderV1  = 24
	fixedHeaderV2  = 32
	checksumOffset = 20
	tlvHeader      = 8
)

// Architecture is the processor of a file; files of version 1 are X64.
type Architecture uint32

// The architectures of the format. Read accepts X64 only.
const (
	ArchX64     Architecture = 0
	ArchAArch64 Architecture = 1
)

// String returns the name that "keel image show" prints.
func (a Architecture) String() string {
	switch a {
	case ArchX64:
		return "x64"
	case ArchAArch64:
		return "aarch64"
	}
	return fmt.Sprintf("architecture %d", uint32(a))
}

// PlatformType is the isolation that a SupportedPlatform stands for.
type PlatformType uint8

// The platforms of the format.
const (
	PlatformNative PlatformType = 0
	PlatformVSM    PlatformType = 1
	PlatformSNP    PlatformType = 2
	PlatformTDX    PlatformType = 3
	PlatformSEV    PlatformType = 4
	PlatformSEVES  PlatformType = 5
	PlatformCCA    PlatformType = 6
)

var platformNames = []string{"native", "vsm", "snp", "tdx", "sev", "sev-es", "cca"}

// String returns the name that "keel image show" prints.
func (p PlatformType) String() string {
	if int(p) < len(platformNames) {
		return platformNames[p]
	}
	return fmt.Sprintf("platform %d", uint8(p))
}

// Type is the type of a variable header (igvm_defs IgvmVariableHeaderType).
type Type uint32

// ignorable is the bit by which a file allows a loader to skip a header that it
// does not know.
const ignorable Type = 1 << 31

// The header types.
const (
	TypeSupportedPlatform   Type = 0x001
	TypeGuestPolicy         Type = 0x101
	TypeRelocatableRegion   Type = 0x102
	TypePageTableRelocation Type = 0x103
	TypeCorimDocument       Type = 0x104
	TypeCorimSignature      Type = 0x105
	TypeCCAPolicy           Type = 0x106
	TypeParameterArea       Type = 0x301
	TypePageData            Type = 0x302
	TypeParameterInsert     Type = 0x303
	TypeVPContext           Type = 0x304
	TypeRequiredMemory      Type = 0x305
	TypeVPCount             Type = 0x307
	TypeSRAT                Type = 0x308
	TypeMADT                Type = 0x309
	TypeMMIORanges          Type = 0x30a
	TypeSNPIDBlock          Type = 0x30b
	TypeMemoryMap           Type = 0x30c
	TypeErrorRange          Type = 0x30d
	TypeCommandLine         Type = 0x30e
	TypeSLIT                Type = 0x30f
	TypePPTT                Type = 0x310
	TypeVBSMeasurement      Type = 0x311
	TypeDeviceTree          Type = 0x312
	TypeEnvironmentInfo     Type = 0x313
)

var typeNames = map[Type]string{
	TypeSupportedPlatform: "SUPPORTED_PLATFORM", TypeGuestPolicy: "GUEST_POLICY",
	TypeRelocatableRegion: "RELOCATABLE_REGION", TypePageTableRelocation: "PAGE_TABLE_RELOCATION",
	TypeCorimDocument: "CORIM_DOCUMENT", TypeCorimSignature: "CORIM_SIGNATURE", TypeCCAPolicy: "CCA_POLICY",
	TypeParameterArea: "PARAMETER_AREA", TypePageData: "PAGE_DATA", TypeParameterInsert: "PARAMETER_INSERT",
	TypeVPContext: "VP_CONTEXT", TypeRequiredMemory: "REQUIRED_MEMORY", TypeVPCount: "VP_COUNT",
	TypeSRAT: "SRAT", TypeMADT: "MADT", TypeMMIORanges: "MMIO_RANGES", TypeSNPIDBlock: "SNP_ID_BLOCK",
	TypeMemoryMap: "MEMORY_MAP", TypeErrorRange: "ERROR_RANGE", TypeCommandLine: "COMMAND_LINE",
	TypeSLIT: "SLIT", TypePPTT: "PPTT", TypeVBSMeasurement: "VBS_MEASUREMENT",
	TypeDeviceTree: "DEVICE_TREE", TypeEnvironmentInfo: "ENVIRONMENT_INFO",
}

// String returns the name in igvm_defs, without its prefix.
func (t Type) String() string {
	if n, ok := typeNames[t]; ok {
		return n
	}
	return fmt.Sprintf("header %#x", uint32(t))
}

// section is the part of the variable headers that a type belongs to. Sections
// follow each other and are never entered again.
type section int

const (
	sectionNone section = iota
	sectionPlatform
	sectionInitialization
	sectionDirective
)

// section returns the section of a type, sectionNone for a number outside all
// ranges of the format.
func (t Type) section() section {
	switch n := t &^ ignorable; {
	case n >= 0x1 && n <= 0x100:
		return sectionPlatform
	case n >= 0x101 && n <= 0x200:
		return sectionInitialization
	case n >= 0x301 && n <= 0x400:
		return sectionDirective
	}
	return sectionNone
}

// parameterSize lists the types that fill a parameter area, with the fewest
// bytes that the loader writes. Tables and texts have no fixed size: one byte.
var parameterSize = map[Type]uint64{
	TypeVPCount: 4, TypeSRAT: 1, TypeMADT: 1, TypeMMIORanges: 32, TypeMemoryMap: MemoryMapEntryBytes,
	TypeCommandLine: 1, TypeSLIT: 1, TypePPTT: 1, TypeDeviceTree: 1, TypeEnvironmentInfo: 4,
}

// MemoryMapEntryBytes is the size of an entry that the loader writes for
// TypeMemoryMap: u64 first page, u64 pages, u16 type, u16 flags, u32 reserved.
const MemoryMapEntryBytes = 24
