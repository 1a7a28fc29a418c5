package igvm

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"keel/hcl/abi/x86"
)

// Read decodes a file and checks everything that can be checked without
// knowing what the pages mean. Data slices of the result alias b, so that the
// memory it takes is bounded by a small multiple of the headers' size.
func Read(b []byte) (*File, error) {
	fixed, err := readFixed(b)
	if err != nil {
		return nil, err
	}
	f := &File{Version: fixed.Version, Arch: fixed.Arch, PageSize: fixed.PageSize}
	r := &reader{file: b[:fixed.FileSize], check: newChecker(fixed.Version)}
	headers := b[fixed.HeadersOffset : fixed.HeadersOffset+fixed.HeadersSize]
	r.dataStart = uint64(fixed.HeadersOffset) + uint64(fixed.HeadersSize)
	for len(headers) > 0 {
		if len(headers) < tlvHeader {
			return nil, fmt.Errorf("%w: %d bytes behind the last header", ErrCorrupt, len(headers))
		}
		t := Type(binary.LittleEndian.Uint32(headers))
		n := uint64(binary.LittleEndian.Uint32(headers[4:]))
		padded := (n + 7) &^ 7
		if tlvHeader+padded > uint64(len(headers)) {
			return nil, corrupt(t, "longer than the headers")
		}
		body := headers[tlvHeader : tlvHeader+n]
		for _, z := range headers[tlvHeader+n : tlvHeader+padded] {
			if z != 0 {
				return nil, corrupt(t, "padding not zero")
			}
		}
		headers = headers[tlvHeader+padded:]
		h, err := r.header(t, body)
		if err != nil {
			return nil, err
		}
		f.Headers = append(f.Headers, h)
	}
	return f, nil
}

// readFixed checks the fixed header and the checksum. The result's offsets lie
// within b.
func readFixed(b []byte) (*fixedHeader, error) {
	if len(b) < 4 || binary.LittleEndian.Uint32(b) != magic {
		return nil, ErrNotIGVM
	}
	if len(b) < fixedHeaderV1 {
		return nil, fmt.Errorf("%w: %d bytes", ErrTruncated, len(b))
	}
	le := binary.LittleEndian
	h := &fixedHeader{
		Version: le.Uint32(b[4:]), HeadersOffset: le.Uint32(b[8:]), HeadersSize: le.Uint32(b[12:]),
		FileSize: le.Uint32(b[16:]), Checksum: le.Uint32(b[20:]), Arch: ArchX64, PageSize: PageSize,
	}
	size := uint32(fixedHeaderV1)
	if h.Version >= 2 {
		size = fixedHeaderV2
		if len(b) < fixedHeaderV2 {
			return nil, fmt.Errorf("%w: %d bytes", ErrTruncated, len(b))
		}
		h.Arch, h.PageSize = Architecture(le.Uint32(b[24:])), le.Uint32(b[28:])
	}
	if err := checkFixed(h.Version, h.Arch, h.PageSize); err != nil {
		return nil, err
	}
	end := uint64(h.HeadersOffset) + uint64(h.HeadersSize)
	switch {
	case uint64(len(b)) < uint64(h.FileSize):
		return nil, fmt.Errorf("%w: %d of %d bytes", ErrTruncated, len(b), h.FileSize)
	// Bytes behind the end would be neither measured nor loaded.
	case uint64(len(b)) > uint64(h.FileSize):
		return nil, fmt.Errorf("%w: %d bytes behind the end", ErrCorrupt, uint64(len(b))-uint64(h.FileSize))
	case h.HeadersOffset < size || h.HeadersOffset%8 != 0 || h.HeadersSize%8 != 0 || end > uint64(h.FileSize):
		return nil, fmt.Errorf("%w: variable headers at %#x, %d bytes", ErrCorrupt, h.HeadersOffset, h.HeadersSize)
	}
	// The sum runs over the fixed header, with zero for the sum, and the
	// variable headers; bytes between the two belong to neither.
	var zero [4]byte
	sum := crc32.ChecksumIEEE(b[:checksumOffset])
	sum = crc32.Update(sum, crc32.IEEETable, zero[:])
	sum = crc32.Update(sum, crc32.IEEETable, b[checksumOffset+4:size])
	sum = crc32.Update(sum, crc32.IEEETable, b[h.HeadersOffset:end])
	if sum != h.Checksum {
		return nil, fmt.Errorf("%w: %#x in the file, %#x computed", ErrChecksum, h.Checksum, sum)
	}
	return h, nil
}

// checkFixed checks what the fixed header chooses.
func checkFixed(version uint32, arch Architecture, pageSize uint32) error {
	switch {
	case version != 1 && version != 2:
		return fmt.Errorf("%w: %d", ErrVersion, version)
	case arch != ArchX64:
		return fmt.Errorf("%w: %v", ErrArchitecture, arch)
	case pageSize != PageSize:
		return fmt.Errorf("%w: page size %d", ErrArchitecture, pageSize)
	}
	return nil
}

// reader decodes variable headers one after the other.
type reader struct {
	file      []byte
	dataStart uint64 // file offsets below it are the headers themselves
	check     *checker
}

// data returns n bytes of file data; offset zero means none.
func (r *reader) data(t Type, off uint32, n uint64) ([]byte, error) {
	if off == 0 {
		return nil, nil
	}
	size := uint64(len(r.file))
	if uint64(off) < r.dataStart || uint64(off) > size || n > size-uint64(off) {
		return nil, corrupt(t, "%d bytes of data at %#x lie outside the file's data", n, off)
	}
	return r.file[off : uint64(off)+n : uint64(off)+n], nil
}

// plain lists the headers that are in the file what they are here.
var plain = map[Type]func() Header{
	TypeSupportedPlatform:   func() Header { return new(SupportedPlatform) },
	TypeGuestPolicy:         func() Header { return new(GuestPolicy) },
	TypeRelocatableRegion:   func() Header { return new(RelocatableRegion) },
	TypePageTableRelocation: func() Header { return new(PageTableRelocation) },
	TypeCCAPolicy:           func() Header { return new(CCAPolicy) },
	TypeParameterInsert:     func() Header { return new(ParameterInsert) },
	TypeRequiredMemory:      func() Header { return new(RequiredMemory) },
	TypeSNPIDBlock:          func() Header { return new(SNPIDBlock) },
	TypeErrorRange:          func() Header { return new(ErrorRange) },
	TypeVBSMeasurement:      func() Header { return new(VBSMeasurement) },
}

// header decodes and checks one header.
func (r *reader) header(t Type, body []byte) (Header, error) {
	if err := r.check.enter(t); err != nil {
		return nil, err
	}
	h, err := r.decode(t, body)
	if err != nil {
		return nil, err
	}
	return h, r.check.header(h)
}

// decode turns a header's bytes into its struct and fetches the data that it
// refers to.
func (r *reader) decode(t Type, body []byte) (Header, error) {
	if create, ok := plain[t]; ok {
		h := create()
		return h, fixedSize(t, body, h)
	}
	if _, ok := parameterSize[t]; ok {
		var w wireParam
		err := fixedSize(t, body, &w)
		return &Parameter{Kind: t, Index: w.Index, Offset: w.Offset}, err
	}
	switch t {
	case TypeParameterArea:
		var w wireArea
		if err := fixedSize(t, body, &w); err != nil {
			return nil, err
		}
		data, err := r.data(t, w.Offset, w.Size)
		return &ParameterArea{Size: w.Size, Index: w.Index, Data: data}, err
	case TypePageData:
		return r.pageData(t, body)
	case TypeVPContext:
		return r.vpContext(t, body)
	case TypeCorimDocument, TypeCorimSignature:
		var w wireCorim
		if err := fixedSize(t, body, &w); err != nil {
			return nil, err
		}
		if w.Reserved != 0 || (w.Offset == 0) != (w.Bytes == 0) {
			return nil, corrupt(t, "%d bytes at %#x", w.Bytes, w.Offset)
		}
		data, err := r.data(t, w.Offset, uint64(w.Bytes))
		return &Corim{Kind: t, Mask: w.Mask, Data: data}, err
	default:
		// Whether a loader may pass over it is for checkRaw to say.
		raw := &Raw{ID: t}
		if len(body) > 0 {
			raw.Data = slices.Clip(body)
		}
		return raw, nil
	}
}

func (r *reader) pageData(t Type, body []byte) (Header, error) {
	var w wirePage
	if err := fixedSize(t, body, &w); err != nil {
		return nil, err
	}
	if w.Reserved != 0 {
		return nil, corrupt(t, "reserved field not zero")
	}
	h := &PageData{GPA: x86.GPA(w.GPA), Mask: w.Mask, Flags: PageFlags(w.Flags), Kind: PageDataType(w.Kind)}
	var err error
	h.Data, err = r.data(t, w.Offset, uint64(h.Bytes()))
	return h, err
}

func (r *reader) vpContext(t Type, body []byte) (Header, error) {
	var w wireVP
	if err := fixedSize(t, body, &w); err != nil {
		return nil, err
	}
	if w.Reserved != 0 {
		return nil, corrupt(t, "reserved field not zero")
	}
	// The header does not say how long the context is: the platform does. A
	// mask of no platform, or of several, is refused when the header is checked.
	var n uint64
	switch p, _ := r.check.platform(w.Mask); p {
	case PlatformNative, PlatformSEV:
		n = NativeContextBytes
	case PlatformSNP, PlatformSEVES, PlatformTDX, PlatformCCA:
		n = PageSize
	case PlatformVSM:
		count, err := r.data(t, w.Offset, vsmCountBytes)
		if err != nil {
			return nil, err
		}
		n = uint64(vsmContextBytes(count))
	}
	data, err := r.data(t, w.Offset, n)
	return &VPContext{GPA: x86.GPA(w.GPA), Mask: w.Mask, VPIndex: w.VPIndex, Data: data}, err
}

// A VSM context is a count and as many registers.
const (
	vsmCountBytes    = 4
	vsmRegisterBytes = 32
	vsmMaxRegisters  = 4096 // far above the registers that Hyper-V names
)

// vsmContextBytes returns the size of the context that starts with b, zero when
// its count makes no sense.
func vsmContextBytes(b []byte) int {
	if len(b) < vsmCountBytes {
		return 0
	}
	n := binary.LittleEndian.Uint32(b)
	if n == 0 || n > vsmMaxRegisters {
		return 0
	}
	return vsmCountBytes + int(n)*vsmRegisterBytes
}

// fixedSize decodes a header whose size the format fixes.
func fixedSize(t Type, body []byte, into any) error {
	if len(body) != binary.Size(into) {
		return corrupt(t, "%d bytes instead of %d", len(body), binary.Size(into))
	}
	if _, err := binary.Decode(body, binary.LittleEndian, into); err != nil {
		return fmt.Errorf("%w: %v: %w", ErrCorrupt, t, err)
	}
	return nil
}
