package tdxmodule

import (
	"testing"

	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// Addresses in a TD of 8 MiB: four regions of 2 MiB in one entry of 1 GiB.
const (
	k4 = x86.PageSize
	m2 = x86.LargePageSize

	memory = 4 * m2
	small0 = x86.GPA(0)      // the region that tests fill page by page
	large1 = x86.GPA(m2)     // the region that tests fill at once
	free2  = x86.GPA(2 * m2) // nothing in it
	beyond = x86.GPA(memory)

	shared = x86.GPA(tdx.GPA_SHARED_48)
	xfam   = tdx.XFAM_X87 | tdx.XFAM_SSE | tdx.XFAM_AVX
)

func config() Config {
	return Config{Memory: memory, VMs: 2, VPs: 4, XFAM: xfam, TSCUnits: 40}
}

func newTD(tb testing.TB, change func(*Config)) *TD {
	tb.Helper()
	c := config()
	if change != nil {
		change(&c)
	}
	td, err := New(c)
	if err != nil {
		tb.Fatal(err)
	}
	return td
}

func newVP(tb testing.TB, change func(*Config)) *VP {
	tb.Helper()
	v, err := newTD(tb, change).NewVP()
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// must wants a host function to succeed.
func must(tb testing.TB, what string, status uint64) {
	tb.Helper()
	if status != tdx.STATUS_SUCCESS {
		tb.Fatalf("%s: %#x", what, status)
	}
}

// filled is a TD with pages 0 to 3 of the first region: mapped, pending, blocked, free;
// the second region is mapped in 2 MiB, the third free, the fourth pending in 2 MiB.
func filled(tb testing.TB, change func(*Config)) *TD {
	tb.Helper()
	t := newTD(tb, change)
	must(tb, "SEPT.ADD 1G", t.SEPTAdd(operand(0, tdx.LEVEL_1G)))
	must(tb, "SEPT.ADD 2M", t.SEPTAdd(operand(0, tdx.LEVEL_2M)))
	for page := range x86.GPA(3) {
		must(tb, "AUG", t.PageAug(operand(page*k4, tdx.LEVEL_4K)))
	}
	accept(tb, t, operand(0, tdx.LEVEL_4K))
	accept(tb, t, operand(2*k4, tdx.LEVEL_4K))
	must(tb, "BLOCK", t.RangeBlock(operand(2*k4, tdx.LEVEL_4K)))
	must(tb, "AUG 2M", t.PageAug(operand(large1, tdx.LEVEL_2M)))
	accept(tb, t, operand(large1, tdx.LEVEL_2M))
	must(tb, "AUG 2M", t.PageAug(operand(3*m2, tdx.LEVEL_2M)))
	return t
}

func accept(tb testing.TB, t *TD, rcx uint64) {
	tb.Helper()
	if r, err := t.Accept(rcx, nil); err != nil || !r.OK() {
		tb.Fatalf("ACCEPT %#x: %+v, %v", rcx, r, err)
	}
}

// setAttributes gives a VM attributes of a page.
func setAttributes(tb testing.TB, t *TD, rcx uint64, vm int, attributes uint16) {
	tb.Helper()
	if r := t.WriteAttributes(rcx, shifted(attributes|tdx.GPA_ATTR_VALID, vm), shifted(0x7fff, vm)); !r.OK() {
		tb.Fatalf("ATTR.WR %#x: %+v", rcx, r)
	}
}
