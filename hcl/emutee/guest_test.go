package emutee

import (
	"testing"

	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// TestPValidate: APM vol. 2 §15.36.6 and table 15-40, vol. 3 "PVALIDATE".
func TestPValidate(t *testing.T) {
	const firmware, host, done, running = x86.GPA(0x3000), x86.GPA(0x2000), x86.GPA(0x1000), x86.GPA(0x4000)
	for _, c := range []struct {
		what string
		vmpl uint8
		gpa  x86.GPA
		size PageSize
		set  bool
		want Result
	}{
		{"accept", 0, page0, k4, true, Result{}},
		{"bits 11:0 are ignored", 0, page0 + 0xabc, k4, true, Result{}},
		{"accept 2M", 0, large1, m2, true, Result{}},
		{"accept twice: carry", 0, done, k4, true, Result{Unchanged: true}},
		{"rescind", 0, done, k4, false, Result{}},
		{"rescind twice: carry", 0, page0, k4, false, Result{Unchanged: true}},
		{"only VMPL0", 1, page0, k4, true, Result{Fault: Fault{FaultGP, 0}}},
		{"VMPL before size", 3, page0, 7, true, Result{Fault: Fault{FaultGP, 0}}},
		{"unknown size", 0, page0, 2, true, Result{Code: 1}},
		{"2M not aligned", 0, large1 + 0x1000, m2, true, Result{Code: 1}},
		{"2M, bits 11:0 are ignored", 0, large1 + 0x7, m2, true, Result{}},
		{"not covered", 0, beyond, k4, true, Result{Fault: npf(0)}},
		{"input before coverage", 0, beyond + 0x1000, m2, true, Result{Code: 1}},
		{"the host's", 0, host, k4, true, Result{Fault: npf(0)}},
		{"the AMD-SP's", 0, firmware, k4, true, Result{Fault: npf(0)}},
		{"VMSA in use", 0, running, k4, false, Result{Fault: npf(0)}},
		{"4K asked, 2M in the RMP", 0, large1 + 0x5000, k4, true, Result{Fault: npf(snp.NPF_SIZEM)}},
		{"2M asked, 4K in the RMP", 0, page0, m2, true, Result{Code: 6}},
		{"2M asked, first page the host's", 0, small2, m2, true, Result{Fault: npf(0)}},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := newRMP(t)
			prepare(t, r, page0, k4, false)
			prepare(t, r, done, k4, true)
			prepare(t, r, large1, m2, false)
			prepare(t, r, running, k4, true)
			r.RMPAdjust(0, running, k4, 1, 0, true)
			r.RMPUpdate(firmware, k4, OwnerFirmware)
			if !r.EnterVMSA(running) {
				t.Fatal("VMSA not entered")
			}
			before, _ := r.Page(c.gpa)
			got := r.PValidate(c.vmpl, c.gpa, c.size, c.set)
			if got != c.want {
				t.Fatalf("%+v, want %+v", got, c.want)
			}
			after, _ := r.Page(c.gpa)
			if got.OK() && !got.Unchanged {
				before.Validated = c.set
			}
			if after != before {
				t.Errorf("page is %+v, want %+v", after, before)
			}
		})
	}
}

// TestRMPAdjust: APM vol. 2 §15.36.7 and table 15-40, vol. 3 "RMPADJUST".
func TestRMPAdjust(t *testing.T) {
	const unaccepted, host, running = x86.GPA(0x1000), x86.GPA(0x2000), x86.GPA(0x4000)
	for _, c := range []struct {
		what   string
		vmpl   uint8
		gpa    x86.GPA
		size   PageSize
		target uint8
		perms  uint8
		vmsa   bool
		want   Result
	}{
		{"grant", 0, page0, k4, 3, snp.RMP_RWX, false, Result{}},
		{"revoke", 0, page0, k4, 1, 0, false, Result{}},
		{"in 2M", 0, large1, m2, 2, snp.RMP_R, false, Result{}},
		{"make a VMSA", 0, page0, k4, 1, snp.RMP_R, true, Result{}},
		{"VMPL1 grants what it has", 1, page0, k4, 2, snp.RMP_R | snp.RMP_W, false, Result{}},
		{"VMPL1 grants what it lacks", 1, page0, k4, 2, snp.RMP_SX, false, Result{Code: 2}},
		{"VMPL1 cannot make a VMSA: the flag is ignored", 1, page0, k4, 2, snp.RMP_R, true, Result{}},
		{"oneself", 1, page0, k4, 1, 0, false, Result{Code: 2}},
		{"VMPL0 oneself", 0, page0, k4, 0, 0, false, Result{Code: 2}},
		{"somebody above", 2, page0, k4, 1, 0, false, Result{Code: 2}},
		{"no such VMPL", 0, page0, k4, 4, 0, false, Result{Code: 1}},
		{"reserved permission", 0, page0, k4, 1, 0x20, false, Result{Code: 1}},
		{"unknown size", 0, page0, 2, 1, 0, false, Result{Code: 1}},
		{"2M not aligned", 0, large1 + 0x1000, m2, 1, 0, false, Result{Code: 1}},
		{"permission before coverage", 1, beyond, k4, 1, 0, false, Result{Code: 2}},
		{"not covered", 0, beyond, k4, 1, 0, false, Result{Fault: npf(0)}},
		{"the host's", 0, host, k4, 1, 0, false, Result{Fault: npf(0)}},
		{"not accepted", 0, unaccepted, k4, 1, 0, false, Result{Fault: Fault{FaultVC, 0x404}}},
		{"VMSA in use", 0, running, k4, 1, 0, false, Result{Fault: npf(0)}},
		{"4K asked, 2M in the RMP", 0, large1 + 0x1000, k4, 1, 0, false, Result{Fault: npf(snp.NPF_SIZEM)}},
		{"2M asked, 4K in the RMP", 0, page0, m2, 1, 0, false, Result{Code: 6}},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := newRMP(t)
			prepare(t, r, page0, k4, true, snp.RMP_R|snp.RMP_W)
			prepare(t, r, unaccepted, k4, false)
			prepare(t, r, large1, m2, true)
			prepare(t, r, running, k4, true)
			r.RMPAdjust(0, running, k4, 1, 0, true)
			if !r.EnterVMSA(running) {
				t.Fatal("VMSA not entered")
			}
			before, _ := r.Page(c.gpa)
			got := r.RMPAdjust(c.vmpl, c.gpa, c.size, c.target, c.perms, c.vmsa)
			if got != c.want {
				t.Fatalf("%+v, want %+v", got, c.want)
			}
			if got.OK() {
				before.Permissions[c.target] = c.perms
				if c.vmpl == 0 {
					before.VMSA = c.vmsa
				}
			}
			if after, _ := r.Page(c.gpa); after != before {
				t.Errorf("page is %+v, want %+v", after, before)
			}
		})
	}
}

// TestRMPAdjustNotAccepted2M: a 2 MiB entry that is not validated raises #VC.
func TestRMPAdjustNotAccepted2M(t *testing.T) {
	r := newRMP(t)
	prepare(t, r, large1, m2, false)
	if got := r.RMPAdjust(0, large1, m2, 1, 0, false); got != (Result{Fault: Fault{FaultVC, 0x404}}) {
		t.Errorf("%+v", got)
	}
}

// TestRMPQuery: APM vol. 3 "RMPQUERY".
func TestRMPQuery(t *testing.T) {
	r := newRMP(t)
	prepare(t, r, page0, k4, true, snp.RMP_R, snp.RMP_RWX)
	prepare(t, r, 0x1000, k4, false)
	prepare(t, r, large1, m2, true, 0, snp.RMP_SX)
	r.RMPAdjust(0, page0, k4, 3, 0, true)
	for _, c := range []struct {
		what   string
		vmpl   uint8
		gpa    x86.GPA
		target uint8
		want   Query
		result Result
	}{
		{"beneath", 0, page0, 2, Query{snp.RMP_RWX, true, k4}, Result{}},
		{"oneself", 1, page0, 1, Query{snp.RMP_R, true, k4}, Result{}},
		{"VMPL0 has all", 0, page0, 0, Query{snp.RMP_ALL, true, k4}, Result{}},
		{"2M", 0, large1 + 0x7000, 2, Query{snp.RMP_SX, false, m2}, Result{}},
		{"above", 2, page0, 1, Query{}, Result{Code: 2}},
		{"no such VMPL", 0, page0, 4, Query{}, Result{Code: 1}},
		{"not covered", 0, beyond, 1, Query{}, Result{Fault: npf(0)}},
		{"the host's", 0, 0x2000, 1, Query{}, Result{Fault: npf(0)}},
		{"not accepted", 0, 0x1000, 1, Query{}, Result{Fault: Fault{FaultVC, 0x404}}},
	} {
		if q, res := r.RMPQuery(c.vmpl, c.gpa, c.target); q != c.want || res != c.result {
			t.Errorf("%s: %+v %+v, want %+v %+v", c.what, q, res, c.want, c.result)
		}
	}
}
