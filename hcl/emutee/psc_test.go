package emutee

import (
	"encoding/binary"
	"testing"

	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// TestPageStateChange: GHCB, "SNP Page State Change".
func TestPageStateChange(t *testing.T) {
	r := newRMP(t)
	change := func(op, gpa uint64, large bool) uint64 {
		e := op<<snp.PSC_OP_SHIFT | gpa
		if large {
			e |= snp.PSC_SIZE_2M
		}
		return e
	}
	owned := func(gpa x86.GPA) (bool, bool) {
		p, _ := r.Page(gpa)
		return p.Assigned, p.Large
	}
	for i, c := range []struct {
		entry           uint64
		want            uint64
		at              x86.GPA
		assigned, large bool
	}{
		{change(snp.PSC_OP_PRIVATE, 0, true), 0, 0x5000, true, true},
		{change(snp.PSC_OP_SHARED, 0x3000, false), 0, 0x3000, false, false}, // splits
		{change(snp.PSC_OP_PRIVATE, 0, true), 0, 0x3000, true, false},       // page by page
		{change(snp.PSC_OP_UNSMASH, 0, true), 0, 0x3000, true, true},
		{change(snp.PSC_OP_PSMASH, 0, true), 0, 0x3000, true, false},
		{change(snp.PSC_OP_SHARED, 0, true), 0, 0x1ff000, false, false},
		{change(0, 0, false), snp.PSC_ERROR_INVALID_ENTRY, 0, false, false},
		{change(snp.PSC_OP_PRIVATE, 0x1000, true), snp.PSC_ERROR_INVALID_ENTRY, 0x1000, false, false},
		{change(snp.PSC_OP_PRIVATE, uint64(beyond), false), snp.PSC_ERROR_INVALID_ENTRY, 0, false, false},
		{change(snp.PSC_OP_PRIVATE, 0, false) | 1, snp.PSC_ERROR_INVALID_ENTRY, 0, false, false},
	} {
		if got := r.PageStateChange(c.entry); got != c.want {
			t.Errorf("%d: %#x: error %#x, want %#x", i, c.entry, got, c.want)
		}
		if a, l := owned(c.at); a != c.assigned || l != c.large {
			t.Errorf("%d: %#x: assigned %v, large %v", i, c.entry, a, l)
		}
	}
	r.RMPUpdate(0x1000, k4, OwnerFirmware)
	if got := r.PageStateChange(change(snp.PSC_OP_SHARED, 0x1000, false)); got != snp.PSC_ERROR_GENERIC {
		t.Errorf("a page of the AMD-SP: %#x", got)
	}
	if got := r.PageStateChange(change(snp.PSC_OP_SHARED, 0, true)); got != snp.PSC_ERROR_GENERIC {
		t.Errorf("a region with a page of the AMD-SP: %#x", got)
	}
}

// TestPageStateChanges: the structure of the event, GHCB "SNP Page State Change".
func TestPageStateChanges(t *testing.T) {
	private := func(gpa uint64) uint64 { return snp.PSC_OP_PRIVATE<<snp.PSC_OP_SHIFT | gpa }
	for _, c := range []struct {
		what         string
		first, last  uint16
		entries      []uint64
		want         uint64
		next         uint16
		owned, freed x86.GPA
	}{
		{"all", 0, 1, []uint64{private(0x1000), private(0x2000)}, 0, 2, 0x2000, 0x3000},
		{"from the second", 1, 1, []uint64{private(0x1000), private(0x2000)}, 0, 2, 0x2000, 0x1000},
		{"done already", 2, 1, []uint64{private(0x1000), private(0x2000)}, 0, 2, page0, 0x1000},
		{"one that fails", 0, 2, []uint64{private(0x1000), 0, private(0x2000)}, snp.PSC_ERROR_INVALID_ENTRY, 1, 0x1000, 0x2000},
		{"beyond the buffer", 0, 2, []uint64{private(0x1000), private(0x2000)}, snp.PSC_ERROR_INVALID_HDR, 0, page0, 0x1000},
		{"beyond the maximum", 0, snp.PSC_MAX_ENTRIES, make([]uint64, 300), snp.PSC_ERROR_INVALID_HDR, 0, page0, 0x1000},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := newRMP(t)
			prepare(t, r, page0, k4, false)
			area := make([]byte, snp.PSC_ENTRIES+len(c.entries)*snp.PSC_ENTRY_SIZE)
			binary.LittleEndian.PutUint16(area[snp.PSC_CUR_ENTRY:], c.first)
			binary.LittleEndian.PutUint16(area[snp.PSC_END_ENTRY:], c.last)
			for i, e := range c.entries {
				binary.LittleEndian.PutUint64(area[snp.PSC_ENTRIES+i*snp.PSC_ENTRY_SIZE:], e)
			}
			if got := r.PageStateChanges(area); got != c.want {
				t.Errorf("error %#x, want %#x", got, c.want)
			}
			if next := binary.LittleEndian.Uint16(area[snp.PSC_CUR_ENTRY:]); next != c.next {
				t.Errorf("current entry %d, want %d", next, c.next)
			}
			owned, _ := r.Page(c.owned)
			freed, _ := r.Page(c.freed)
			if !owned.Assigned || freed.Assigned {
				t.Errorf("%#x is %+v, %#x is %+v", c.owned, owned, c.freed, freed)
			}
		})
	}
	if got := newRMP(t).PageStateChanges(make([]byte, snp.PSC_ENTRIES-1)); got != snp.PSC_ERROR_INVALID_HDR {
		t.Errorf("no header: %#x", got)
	}
}
