package igvm

import (
	"encoding/binary"
	"testing"

	"keel/hcl/abi/snp"
)

// TestSNPContext finds every field where the architecture's table has it, and
// nothing else in the page.
func TestSNPContext(t *testing.T) {
	seg := func(n uint16) SNPSegment { return SNPSegment{n, n + 0x100, uint32(n) + 0x10000, uint64(n) + 1<<40} }
	c := &SNPContext{
		ES: seg(1), CS: seg(2), SS: seg(3), DS: seg(4), FS: seg(5), GS: seg(6), GDTR: seg(7), LDTR: seg(8), IDTR: seg(9), TR: seg(10),
		EFER: 11, CR0: 12, CR3: 13, CR4: 14, DR6: 15, DR7: 16, RIP: 17, RSP: 18, RFLAGS: 19, PAT: 20, XCR0: 21,
		SEVFeatures: 22, MXCSR: 23, FCW: 24,
	}
	b := c.Bytes()
	le := binary.LittleEndian
	if len(b) != snp.VMSA_SIZE {
		t.Fatalf("%d bytes", len(b))
	}
	for i, at := range []int{
		snp.VMSA_ES, snp.VMSA_CS, snp.VMSA_SS, snp.VMSA_DS, snp.VMSA_FS, snp.VMSA_GS,
		snp.VMSA_GDTR, snp.VMSA_LDTR, snp.VMSA_IDTR, snp.VMSA_TR,
	} {
		got := SNPSegment{
			le.Uint16(b[at+snp.SEG_SELECTOR:]), le.Uint16(b[at+snp.SEG_ATTRIBUTES:]),
			le.Uint32(b[at+snp.SEG_LIMIT:]), le.Uint64(b[at+snp.SEG_BASE:]),
		}
		if got != seg(uint16(i+1)) {
			t.Errorf("segment at %#x: %+v", at, got)
		}
		clear(b[at : at+snp.SEG_SIZE])
	}
	for i, at := range []int{
		snp.VMSA_EFER, snp.VMSA_CR0, snp.VMSA_CR3, snp.VMSA_CR4, snp.VMSA_DR6, snp.VMSA_DR7, snp.VMSA_RIP, snp.VMSA_RSP,
		snp.VMSA_RFLAGS, snp.VMSA_G_PAT, snp.VMSA_XCR0, snp.VMSA_SEV_FEATURES, snp.VMSA_MXCSR, snp.VMSA_X87_FCW,
	} {
		if got := le.Uint64(b[at:]); got != uint64(i+11) {
			t.Errorf("field at %#x: %d, want %d", at, got, i+11)
		}
		clear(b[at : at+8])
	}
	for i, v := range b {
		if v != 0 {
			t.Errorf("byte %#x is %#x", i, v)
		}
	}
}
