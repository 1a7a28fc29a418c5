package igvm

import "encoding/binary"

// SNPContext is the first register state of a VP on SNP, as far as loaders let a
// file choose it; all else in the VMSA is zero. It is the VP context of the SNP
// platform (APM vol. 2, table B-4).
type SNPContext struct {
	ES, CS, SS, DS, FS, GS  SNPSegment
	GDTR, LDTR, IDTR, TR    SNPSegment
	EFER                    uint64 // VMRUN demands SVME
	CR0, CR3, CR4, DR6, DR7 uint64
	RIP, RSP, RFLAGS        uint64
	PAT, XCR0               uint64
	SEVFeatures             uint64
	MXCSR                   uint32
	FCW                     uint16
}

// SNPSegment is a segment register as it stands in a VMSA. Attributes are bits
// 8 to 15 and 20 to 23 of the descriptor's second word, put together.
type SNPSegment struct {
	Selector, Attributes uint16
	Limit                uint32 // bytes, not pages
	Base                 uint64
}

// Byte offsets in the VMSA (APM vol. 2, table B-4).
const (
	vmsaSegments    = 0x000 // ES CS SS DS FS GS GDTR LDTR IDTR TR, 16 bytes each
	vmsaSegment     = 0x010
	vmsaEFER        = 0x0d0
	vmsaCR4         = 0x148
	vmsaCR3         = 0x150
	vmsaCR0         = 0x158
	vmsaDR7         = 0x160
	vmsaDR6         = 0x168
	vmsaRFLAGS      = 0x170
	vmsaRIP         = 0x178
	vmsaRSP         = 0x1d8
	vmsaPAT         = 0x268
	vmsaSEVFeatures = 0x3b0
	vmsaXCR0        = 0x3e8
	vmsaMXCSR       = 0x408 // u32
	vmsaFCW         = 0x410 // u16
)

// Bytes encodes the context as a page.
func (c *SNPContext) Bytes() []byte {
	b := make([]byte, PageSize)
	le := binary.LittleEndian
	for i, s := range []SNPSegment{c.ES, c.CS, c.SS, c.DS, c.FS, c.GS, c.GDTR, c.LDTR, c.IDTR, c.TR} {
		at := b[vmsaSegments+i*vmsaSegment:]
		le.PutUint16(at, s.Selector)
		le.PutUint16(at[2:], s.Attributes)
		le.PutUint32(at[4:], s.Limit)
		le.PutUint64(at[8:], s.Base)
	}
	for _, r := range []struct {
		at    int
		value uint64
	}{
		{vmsaEFER, c.EFER},
		{vmsaCR0, c.CR0},
		{vmsaCR3, c.CR3},
		{vmsaCR4, c.CR4},
		{vmsaDR6, c.DR6},
		{vmsaDR7, c.DR7},
		{vmsaRIP, c.RIP},
		{vmsaRSP, c.RSP},
		{vmsaRFLAGS, c.RFLAGS},
		{vmsaPAT, c.PAT},
		{vmsaXCR0, c.XCR0},
		{vmsaSEVFeatures, c.SEVFeatures},
	} {
		le.PutUint64(b[r.at:], r.value)
	}
	le.PutUint32(b[vmsaMXCSR:], c.MXCSR)
	le.PutUint16(b[vmsaFCW:], c.FCW)
	return b
}
