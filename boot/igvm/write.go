package igvm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// The headers that carry a file offset, as they stand in the file.
type (
	wireArea struct {
		Size          uint64
		Index, Offset uint32
	}
	wirePage struct {
		GPA                 uint64
		Mask, Offset, Flags uint32
		Kind, Reserved      uint16
	}
	wireVP struct {
		GPA               uint64
		Mask, Offset      uint32
		VPIndex, Reserved uint16
	}
	wireCorim struct{ Mask, Offset, Bytes, Reserved uint32 }
	wireParam struct{ Index, Offset uint32 }
)

// fixedHeader is the version 2 header; version 1 ends before Arch.
type fixedHeader struct {
	Magic, Version, HeadersOffset, HeadersSize, FileSize, Checksum uint32
	Arch                                                           Architecture
	PageSize                                                       uint32
}

// store collects the file data. Equal pieces are stored once.
type store struct {
	base uint64 // file offset of the first byte
	data bytes.Buffer
	seen map[[sha256.Size]byte]uint32
}

// put returns the file offset of b, zero for no data.
func (s *store) put(b []byte) (uint32, error) {
	if len(b) == 0 {
		return 0, nil
	}
	sum := sha256.Sum256(b)
	if off, ok := s.seen[sum]; ok {
		return off, nil
	}
	off := s.base + uint64(s.data.Len())
	if off+uint64(len(b)) > math.MaxUint32 {
		return 0, fmt.Errorf("%w: more than 4 GiB", ErrCorrupt)
	}
	s.data.Write(b)
	s.seen[sum] = uint32(off)
	return uint32(off), nil
}

// Write encodes a file. The same File gives the same bytes.
func Write(f *File) ([]byte, error) {
	fixed := fixedHeaderV2
	if f.Version == 1 {
		fixed = fixedHeaderV1
	}
	if err := checkFixed(f.Version, f.Arch, f.PageSize); err != nil {
		return nil, err
	}
	check := newChecker(f.Version)
	// What Read would refuse must not be written: a loader may be laxer than
	// Read, but the measurer and `keel image show` are not.
	// Offsets need the size of all headers, which depends on no offset: the
	// first pass checks and adds up, the second encodes.
	total := uint64(0)
	for _, h := range f.Headers {
		if err := check.enter(h.Type()); err != nil {
			return nil, err
		}
		if err := check.header(h); err != nil {
			return nil, err
		}
		total += tlvHeader + uint64(pad8(wireSize(h)))
	}
	st := &store{base: uint64(fixed) + total, seen: map[[sha256.Size]byte]uint32{}}
	headers := make([]byte, 0, total)
	// Data is stored in the order of the headers, so that the bytes depend on
	// nothing but f.
	for _, h := range f.Headers {
		body, err := encode(h, st)
		if err != nil {
			return nil, err
		}
		headers = binary.LittleEndian.AppendUint32(headers, uint32(h.Type()))
		headers = binary.LittleEndian.AppendUint32(headers, uint32(len(body)))
		headers = append(headers, body...)
		headers = append(headers, make([]byte, pad8(len(body))-len(body))...)
	}
	size := st.base + uint64(st.data.Len())
	if size > math.MaxUint32 {
		return nil, fmt.Errorf("%w: more than 4 GiB", ErrCorrupt)
	}
	out, err := binary.Append(make([]byte, 0, size), binary.LittleEndian, &fixedHeader{
		Magic: magic, Version: f.Version, HeadersOffset: uint32(fixed), HeadersSize: uint32(total),
		FileSize: uint32(size), Arch: f.Arch, PageSize: f.PageSize,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	out = append(out[:fixed], headers...)
	binary.LittleEndian.PutUint32(out[checksumOffset:], crc32.ChecksumIEEE(out))
	return append(out, st.data.Bytes()...), nil
}

func pad8(n int) int { return (n + 7) &^ 7 }

// wireSize returns the length field of a header.
func wireSize(h Header) int {
	switch h := h.(type) {
	case *ParameterArea:
		return binary.Size(wireArea{})
	case *PageData:
		return binary.Size(wirePage{})
	case *VPContext:
		return binary.Size(wireVP{})
	case *Corim:
		return binary.Size(wireCorim{})
	case *Parameter:
		return binary.Size(wireParam{})
	case *Raw:
		return len(h.Data)
	}
	return binary.Size(h)
}

// encode returns a header's bytes behind type and length; its data goes to st.
func encode(h Header, st *store) ([]byte, error) {
	var wire any = h
	var err error
	var off uint32
	switch h := h.(type) {
	case *ParameterArea:
		off, err = st.put(h.Data)
		wire = wireArea{h.Size, h.Index, off}
	case *PageData:
		off, err = st.put(h.Data)
		wire = wirePage{uint64(h.GPA), h.Mask, off, uint32(h.Flags), uint16(h.Kind), 0}
	case *VPContext:
		data := h.Data
		// The igvm crate, and so QEMU, reads a page here and wants zeros behind
		// the registers.
		if len(data) == NativeContextBytes {
			data = append(bytes.Clone(data), make([]byte, PageSize-NativeContextBytes)...)
		}
		off, err = st.put(data)
		wire = wireVP{uint64(h.GPA), h.Mask, off, h.VPIndex, 0}
	case *Corim:
		off, err = st.put(h.Data)
		wire = wireCorim{h.Mask, off, uint32(len(h.Data)), 0}
	case *Parameter:
		wire = wireParam{h.Index, h.Offset}
	case *Raw:
		return h.Data, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := binary.Append(nil, binary.LittleEndian, wire)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrCorrupt, h.Type(), err)
	}
	return b, nil
}
