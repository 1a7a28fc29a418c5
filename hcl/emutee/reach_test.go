package emutee

import (
	"testing"

	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// TestReach: what Reach says of a page is what Check says of every access.
func TestReach(t *testing.T) {
	r := newRMP(t)
	prepare(t, r, page0, k4, true)
	prepare(t, r, 0x1000, k4, false)
	prepare(t, r, large1, m2, true)
	want := func(gpa x86.GPA, vmpl uint8) Reach {
		allowed, accesses := 0, []Access{0, User, Write, Write | User, Fetch, Fetch | User, Table, Table | Write}
		for _, a := range accesses {
			if r.Check(gpa, a, vmpl).OK() {
				allowed++
			}
		}
		switch allowed {
		case 0:
			return ReachNone
		case len(accesses):
			return ReachAll
		}
		return ReachPart
	}
	for p := range uint8(snp.RMP_ALL + 1) {
		for _, at := range []struct {
			gpa, end x86.GPA
			size     PageSize
		}{{page0 + 8, 0x1000, k4}, {large1 + 0x3000, small2, m2}} {
			if res := r.RMPAdjust(0, at.gpa&^(x86.PageSize-1)&^(x86.LargePageSize-1), at.size, 2, p, false); !res.OK() {
				t.Fatal(res)
			}
			for vmpl := range uint8(snp.VMPLS) {
				if got, end := r.Reach(at.gpa, vmpl); got != want(at.gpa, vmpl) || end != at.end {
					t.Errorf("%#x, permissions %05b, VMPL %d: %d to %#x, want %d to %#x", at.gpa, p, vmpl, got, end, want(at.gpa, vmpl), at.end)
				}
			}
		}
	}
	for _, gpa := range []x86.GPA{0x1000, 0x2000, beyond} {
		if got, end := r.Reach(gpa, 0); got != ReachNone || end != gpa+0x1000 {
			t.Errorf("%#x: %d to %#x", gpa, got, end)
		}
	}
}
