package emutee

import (
	"testing"

	"keel/hcl/abi/x86"
	"keel/hcl/snp/vmsa"
)

// TestFaultExit: §15.36.9 and §15.36.10.
func TestFaultExit(t *testing.T) {
	r := newRMP(t)
	prepare(t, r, page0, k4, true)
	prepare(t, r, 0x1000, k4, false)
	for _, c := range []struct {
		fault Fault
		gpa   x86.GPA
		want  vmsa.ExitInfo
		ok    bool
	}{
		{r.Check(page0, Write, 2), page0 + 8, vmsa.ExitInfo{Code: 0x400, Info1: 0x1580000007, Info2: 8}, true},
		{r.Check(0x1000, 0, 0), 0x1000, vmsa.ExitInfo{Code: 0x404, Info2: 0x1000}, true},
		{Fault{}, 0, vmsa.ExitInfo{}, false},
		{Fault{Kind: FaultGP}, 0, vmsa.ExitInfo{}, false},
	} {
		if got, ok := c.fault.Exit(c.gpa); ok != c.ok || got != c.want {
			t.Errorf("%+v: %v %+v (%#x), want %v %+v", c.fault, ok, got, got.Info1, c.ok, c.want)
		}
	}
}
