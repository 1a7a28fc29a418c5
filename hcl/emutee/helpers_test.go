package emutee

import (
	"testing"

	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// Addresses in a table of four regions.
const (
	memory = 4 * x86.LargePageSize
	page0  = x86.GPA(0)
	large1 = x86.GPA(x86.LargePageSize) // the region that tests make large
	small2 = x86.GPA(2 * x86.LargePageSize)
	beyond = x86.GPA(memory)

	k4 = PageSize(snp.RMP_PG_SIZE_4K)
	m2 = PageSize(snp.RMP_PG_SIZE_2M)
)

func newRMP(tb testing.TB) *RMP {
	tb.Helper()
	r, err := NewRMP(memory, false)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// prepare brings a page into a state that tests start from.
func prepare(tb testing.TB, r *RMP, gpa x86.GPA, size PageSize, validate bool, perms ...uint8) {
	tb.Helper()
	if code := r.RMPUpdate(gpa, size, OwnerGuest); code != snp.RMP_SUCCESS {
		tb.Fatalf("RMPUPDATE %#x: %d", gpa, code)
	}
	if !validate {
		return
	}
	if res := r.PValidate(0, gpa, size, true); !res.OK() || res.Unchanged {
		tb.Fatalf("PVALIDATE %#x: %+v", gpa, res)
	}
	for i, p := range perms {
		if res := r.RMPAdjust(0, gpa, size, uint8(i+1), p, false); !res.OK() {
			tb.Fatalf("RMPADJUST %#x: %+v", gpa, res)
		}
	}
}

// npf is the error code of a refused private access.
func npf(bits uint64) Fault {
	return Fault{FaultNPF, snp.NPF_P | snp.NPF_US | snp.NPF_RMP | snp.NPF_ENC | snp.NPF_FINAL | bits}
}
