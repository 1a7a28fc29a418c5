package igvm

import "keel/hcl/abi/x86"

// File is an IGVM file: the fixed header's choices and the variable headers in
// file order.
type File struct {
	Version  uint32       // format version, 1 or 2
	Arch     Architecture // in the file from version 2 on
	PageSize uint32       // in the file from version 2 on; only PageSize is supported
	Headers  []Header
}

// Header is one variable header. A header that refers to file data holds the
// data itself; where it lies in the file is the writer's choice.
type Header interface {
	// Type returns the header's type, without the ignorable bit but for Raw.
	Type() Type
}

// SupportedPlatform declares one bit of the compatibility masks.
type SupportedPlatform struct {
	Mask              uint32 // exactly one bit
	HighestVTL        uint8  // 0 or 2
	Platform          PlatformType
	Version           uint16
	SharedGPABoundary x86.GPA // zero on native and VSM
}

// GuestPolicy is the isolation's own policy: SNP ABI 4.3, or bits of IGVM's own for TDX.
type GuestPolicy struct {
	Policy   uint64
	Mask     uint32
	Reserved uint32
}

// RelocatableRegion allows the loader to move a range of pages.
type RelocatableRegion struct {
	Mask      uint32
	VPIndex   uint16
	VTL       uint8
	Flags     uint8
	Alignment uint64
	Base      x86.GPA
	Size      uint64
	Min, Max  x86.GPA
}

// PageTableRelocation names the page tables that follow a relocation.
type PageTableRelocation struct {
	Mask     uint32
	VPIndex  uint16
	VTL      uint8
	Reserved uint8
	GPA      x86.GPA
	Size     uint64
	Used     uint64
}

// CCAPolicy is the policy of an Arm realm.
type CCAPolicy struct {
	Mask          uint32
	Reserved      uint32
	RequiredZeros uint64
	RequiredOnes  uint64
	HashAlgorithm uint8
	LFAPolicy     uint8
	Reserved2     [6]byte
}

// Corim is a CoRIM document or its signature.
type Corim struct {
	Kind Type // TypeCorimDocument or TypeCorimSignature
	Mask uint32
	Data []byte
}

// ParameterArea declares memory that the loader fills with parameters.
type ParameterArea struct {
	Size  uint64 // bytes, a multiple of the page size
	Index uint32 // declared once, inserted once
	Data  []byte // initial contents, Size bytes; nil for zeros
}

// PageFlags are the flags of PageData.
type PageFlags uint32

// The page flags.
const (
	PageLarge      PageFlags = 1 << 0 // 2 MiB
	PageUnmeasured PageFlags = 1 << 1
	PageShared     PageFlags = 1 << 2 // visible to the host, never measured
)

// PageDataType says what the loader puts into a page.
type PageDataType uint16

// The page data types.
const (
	PageNormal    PageDataType = 0
	PageSecrets   PageDataType = 1
	PageCPUID     PageDataType = 2
	PageCPUIDXF   PageDataType = 3
	pageTypeLimit PageDataType = 4
)

// PageData loads one page.
type PageData struct {
	GPA   x86.GPA
	Mask  uint32
	Flags PageFlags
	Kind  PageDataType
	Data  []byte // Bytes() long; nil for a page of zeros
}

// Bytes returns the size of the page.
func (p *PageData) Bytes() int {
	if p.Flags&PageLarge != 0 {
		return LargePageSize
	}
	return PageSize
}

// ParameterInsert puts a filled parameter area into memory, unmeasured.
type ParameterInsert struct {
	GPA   x86.GPA
	Mask  uint32
	Index uint32
}

// Parameter tells the loader to write one parameter into an area.
type Parameter struct {
	Kind   Type // TypeVPCount, TypeMemoryMap, ...
	Index  uint32
	Offset uint32 // bytes from the area's start
}

// VPContext is the first register state of a VP. What Data holds depends on
// the platform: NativeContextBytes on native and SEV, a VMSA page on SNP and
// SEV-ES, a register list on VSM.
type VPContext struct {
	GPA     x86.GPA // of the VMSA; zero elsewhere
	Mask    uint32
	VPIndex uint16
	Data    []byte
}

// RequiredMemory names memory without which the guest cannot run.
type RequiredMemory struct {
	GPA      x86.GPA
	Mask     uint32
	Bytes    uint32
	Flags    uint32 // bit 0: VTL2 protectable
	Reserved uint32
}

// SNPSignature is an ECDSA signature as the AMD-SP wants it.
type SNPSignature struct{ R, S [72]byte }

// SNPPublicKey is an ECDSA key as the AMD-SP wants it.
type SNPPublicKey struct {
	Curve    uint32
	Reserved uint32
	QX, QY   [72]byte
}

// SNPIDBlock is the ID block of a SEV-SNP launch (SNP ABI 8.18).
type SNPIDBlock struct {
	Mask               uint32
	AuthorKeyEnabled   uint8
	Reserved           [3]byte
	LaunchDigest       [48]byte
	FamilyID           [16]byte
	ImageID            [16]byte
	Version            uint32
	GuestSVN           uint32
	IDKeyAlgorithm     uint32
	AuthorKeyAlgorithm uint32
	IDKeySignature     SNPSignature
	IDPublicKey        SNPPublicKey
	AuthorKeySignature SNPSignature
	AuthorPublicKey    SNPPublicKey
}

// ErrorRange is memory in which the guest reports errors to the host.
type ErrorRange struct {
	GPA   x86.GPA
	Mask  uint32
	Bytes uint32
}

// VBSMeasurement is the signed measurement of a VBS launch.
type VBSMeasurement struct {
	Mask             uint32
	Version          uint32
	ProductID        uint32
	ModuleID         uint32
	SecurityVersion  uint32
	PolicyFlags      uint32
	DigestAlgorithm  uint32
	SigningAlgorithm uint32
	Digest           [64]byte
	Signature        [256]byte
	PublicKey        [512]byte
}

// Raw is an ignorable header of a type that this package does not know; ID
// keeps the ignorable bit.
type Raw struct {
	ID   Type
	Data []byte
}

// Type implements Header.
func (*SupportedPlatform) Type() Type { return TypeSupportedPlatform }

// Type implements Header.
func (*GuestPolicy) Type() Type { return TypeGuestPolicy }

// Type implements Header.
func (*RelocatableRegion) Type() Type { return TypeRelocatableRegion }

// Type implements Header.
func (*PageTableRelocation) Type() Type { return TypePageTableRelocation }

// Type implements Header.
func (*CCAPolicy) Type() Type { return TypeCCAPolicy }

// Type implements Header.
func (c *Corim) Type() Type { return c.Kind }

// Type implements Header.
func (*ParameterArea) Type() Type { return TypeParameterArea }

// Type implements Header.
func (*PageData) Type() Type { return TypePageData }

// Type implements Header.
func (*ParameterInsert) Type() Type { return TypeParameterInsert }

// Type implements Header.
func (p *Parameter) Type() Type { return p.Kind }

// Type implements Header.
func (*VPContext) Type() Type { return TypeVPContext }

// Type implements Header.
func (*RequiredMemory) Type() Type { return TypeRequiredMemory }

// Type implements Header.
func (*SNPIDBlock) Type() Type { return TypeSNPIDBlock }

// Type implements Header.
func (*ErrorRange) Type() Type { return TypeErrorRange }

// Type implements Header.
func (*VBSMeasurement) Type() Type { return TypeVBSMeasurement }

// Type implements Header.
func (r *Raw) Type() Type { return r.ID }
