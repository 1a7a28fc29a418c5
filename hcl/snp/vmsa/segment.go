package vmsa

import (
	"encoding/binary"

	"keel/hcl"
	"keel/hcl/abi/snp"
)

// segmentAt ties a segment register to where it lies in a VMSA.
type segmentAt struct {
	at      int
	segment *hcl.Segment
}

func (s *SaveArea) segments() [8]segmentAt {
	c := &s.Special
	return [...]segmentAt{
		{snp.VMSA_ES, &c.ES},
		{snp.VMSA_CS, &c.CS},
		{snp.VMSA_SS, &c.SS},
		{snp.VMSA_DS, &c.DS},
		{snp.VMSA_FS, &c.FS},
		{snp.VMSA_GS, &c.GS},
		{snp.VMSA_LDTR, &c.LDT},
		{snp.VMSA_TR, &c.TR},
	}
}

// decodeSegment reads a segment register. SVM has no "unusable": a segment that
// is not present is that.
func decodeSegment(b []byte) hcl.Segment {
	le := binary.LittleEndian
	a := uint32(le.Uint16(b[snp.SEG_ATTRIBUTES:]))
	attributes := a&snp.SEG_ATTR_LOW_MASK | a&snp.SEG_ATTR_HIGH_MASK<<snp.SEG_ATTR_HIGH_TO_VMX
	if a&snp.SEG_ATTR_P == 0 {
		attributes |= hcl.SegUnusable
	}
	return hcl.Segment{
		Base:       le.Uint64(b[snp.SEG_BASE:]),
		Limit:      le.Uint32(b[snp.SEG_LIMIT:]),
		Selector:   le.Uint16(b[snp.SEG_SELECTOR:]),
		Attributes: attributes,
	}
}

// encodeSegment writes a segment register. One that is unusable loses its present
// bit, and with it its meaning.
func encodeSegment(b []byte, s *hcl.Segment) {
	a := s.Attributes&snp.SEG_ATTR_LOW_MASK | s.Attributes>>snp.SEG_ATTR_HIGH_TO_VMX&snp.SEG_ATTR_HIGH_MASK
	if s.Attributes&hcl.SegUnusable != 0 {
		a &^= snp.SEG_ATTR_P
	}
	le := binary.LittleEndian
	le.PutUint64(b[snp.SEG_BASE:], s.Base)
	le.PutUint32(b[snp.SEG_LIMIT:], s.Limit)
	le.PutUint16(b[snp.SEG_SELECTOR:], s.Selector)
	le.PutUint16(b[snp.SEG_ATTRIBUTES:], uint16(a))
}
