package emutee

import (
	"testing"

	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// TestRMPUpdate: APM vol. 2 §15.36.5, vol. 3 "RMPUPDATE".
func TestRMPUpdate(t *testing.T) {
	const firmware, running, open = x86.GPA(0x3000), x86.GPA(0x4000), x86.GPA(0x5000)
	fresh := Page{Assigned: true, Permissions: [4]uint8{snp.RMP_ALL}}
	for _, c := range []struct {
		what string
		gpa  x86.GPA
		size PageSize
		to   Owner
		code uint32
		want Page
	}{
		{"assign", 0x2000, k4, OwnerGuest, 0, fresh},
		{"assign 2M", small2, m2, OwnerGuest, 0, Page{Assigned: true, Large: true, Permissions: fresh.Permissions}},
		{"take back forgets", open, k4, OwnerHost, 0, Page{Permissions: fresh.Permissions}},
		{"take back 2M", large1, m2, OwnerHost, 0, Page{Permissions: fresh.Permissions}},
		{"give to the AMD-SP forgets", open, k4, OwnerFirmware, 0, Page{Assigned: true, Immutable: true, Permissions: fresh.Permissions}},
		{
			"same again keeps", open, k4, OwnerGuest, 0,
			Page{Assigned: true, Validated: true, VMSA: true, Permissions: [4]uint8{snp.RMP_ALL, snp.RMP_R}},
		},
		{"immutable", firmware, k4, OwnerHost, 2, Page{Assigned: true, Immutable: true, Permissions: fresh.Permissions}},
		{"in use", running, k4, OwnerHost, 3, Page{Assigned: true, Validated: true, VMSA: true, InUse: true, Permissions: fresh.Permissions}},
		{
			"4K in 2M", large1, k4, OwnerHost, 4,
			Page{Assigned: true, Validated: true, Large: true, Permissions: fresh.Permissions},
		},
		{
			"4K amid 2M", large1 + 0x1000, k4, OwnerHost, 4,
			Page{Assigned: true, Validated: true, Large: true, Permissions: fresh.Permissions},
		},
		{"2M over assigned 4K", page0, m2, OwnerGuest, 4, Page{Permissions: fresh.Permissions}},
		{"2M not aligned", small2 + 0x1000, m2, OwnerGuest, 1, Page{Permissions: fresh.Permissions}},
		{"unknown size", small2, 2, OwnerGuest, 1, Page{Permissions: fresh.Permissions}},
		{"unknown owner", small2, k4, 3, 1, Page{Permissions: fresh.Permissions}},
		{"not covered", beyond, k4, OwnerGuest, 1, Page{}},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := newRMP(t)
			prepare(t, r, large1, m2, true)
			prepare(t, r, open, k4, true, snp.RMP_R)
			r.RMPAdjust(0, open, k4, 2, 0, true)
			prepare(t, r, running, k4, true)
			r.RMPAdjust(0, running, k4, 2, 0, true)
			r.EnterVMSA(running)
			r.RMPUpdate(firmware, k4, OwnerFirmware)
			if code := r.RMPUpdate(c.gpa, c.size, c.to); code != c.code {
				t.Errorf("code %d, want %d", code, c.code)
			}
			if got, _ := r.Page(c.gpa); got != c.want {
				t.Errorf("page is %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestSmash: APM vol. 2 §15.36.11, and SNP_PAGE_UNSMASH of the firmware ABI.
func TestSmash(t *testing.T) {
	r := newRMP(t)
	prepare(t, r, large1, m2, true, snp.RMP_R, snp.RMP_RWX)
	prepare(t, r, page0, k4, true)
	before, _ := r.Page(large1 + 0x42000)
	for _, c := range []struct {
		gpa  x86.GPA
		want uint32
	}{{large1 + 0x1000, 1}, {beyond, 1}, {page0, 7}, {small2, 7}, {large1, 0}, {large1, 7}} {
		if got := r.PSmash(c.gpa); got != c.want {
			t.Errorf("PSMASH %#x: %d, want %d", c.gpa, got, c.want)
		}
	}
	before.Large = false
	if after, _ := r.Page(large1 + 0x42000); after != before {
		t.Errorf("PSMASH: page is %+v, want %+v", after, before)
	}
	if res := r.PValidate(0, large1+0x42000, k4, false); res != (Result{}) {
		t.Errorf("a page of a split region: %+v", res)
	}
	if got := r.Unsmash(large1); got != snp.SP_INVALID_PAGE_STATE {
		t.Errorf("unsmash of pages that differ: %#x", got)
	}
	r.PValidate(0, large1+0x42000, k4, true)
	for _, c := range []struct {
		gpa  x86.GPA
		want uint32
	}{
		{large1 + 0x1000, snp.SP_INVALID_ADDRESS},
		{beyond, snp.SP_INVALID_ADDRESS},
		{small2, snp.SP_INVALID_PAGE_STATE},
		{large1, snp.SP_SUCCESS},
		{large1, snp.SP_INVALID_PAGE_SIZE},
	} {
		if got := r.Unsmash(c.gpa); got != c.want {
			t.Errorf("unsmash %#x: %#x, want %#x", c.gpa, got, c.want)
		}
	}
	before.Large = true
	if after, _ := r.Page(large1 + 0x42000); after != before {
		t.Errorf("unsmash: page is %+v, want %+v", after, before)
	}
	r.RMPAdjust(0, large1, m2, 1, 0, true)
	r.PSmash(large1)
	if got := r.Unsmash(large1); got != snp.SP_INVALID_PAGE_STATE {
		t.Errorf("unsmash of VMSAs: %#x", got)
	}
}

// TestLaunch: SNP_LAUNCH_UPDATE and SNP_PAGE_RECLAIM of the firmware ABI.
func TestLaunch(t *testing.T) {
	r := newRMP(t)
	prepare(t, r, page0, k4, false)
	prepare(t, r, large1, m2, false)
	perms := [3]uint8{0, snp.RMP_R, snp.RMP_RWX}
	for _, c := range []struct {
		gpa  x86.GPA
		size PageSize
		p    [3]uint8
		want uint32
	}{
		{0x1000, k4, perms, snp.SP_INVALID_PAGE_STATE},
		{page0, m2, perms, snp.SP_INVALID_PAGE_SIZE},
		{large1, k4, perms, snp.SP_INVALID_PAGE_SIZE},
		{page0 + 0x1000, m2, perms, snp.SP_INVALID_ADDRESS},
		{beyond, k4, perms, snp.SP_INVALID_ADDRESS},
		{page0, k4, [3]uint8{0x20}, snp.SP_INVALID_PARAM},
		{page0, k4, perms, snp.SP_SUCCESS},
		{page0, k4, perms, snp.SP_INVALID_PAGE_STATE},
		{large1, m2, perms, snp.SP_SUCCESS},
	} {
		if got := r.Launch(c.gpa, c.size, c.p, c.gpa == page0); got != c.want {
			t.Errorf("launch %#x: %#x, want %#x", c.gpa, got, c.want)
		}
	}
	want := Page{Assigned: true, Validated: true, VMSA: true, Permissions: [4]uint8{snp.RMP_ALL, 0, snp.RMP_R, snp.RMP_RWX}}
	if got, _ := r.Page(page0); got != want {
		t.Errorf("page is %+v, want %+v", got, want)
	}

	r.RMPUpdate(0x1000, k4, OwnerFirmware)
	r.RMPUpdate(small2, m2, OwnerFirmware)
	for _, c := range []struct {
		gpa  x86.GPA
		size PageSize
		want uint32
	}{
		{page0, k4, snp.SP_INVALID_PAGE_STATE},
		{small2, k4, snp.SP_INVALID_PAGE_SIZE},
		{beyond, k4, snp.SP_INVALID_ADDRESS},
		{0x1000, k4, snp.SP_SUCCESS},
		{small2, m2, snp.SP_SUCCESS},
	} {
		if got := r.Reclaim(c.gpa, c.size); got != c.want {
			t.Errorf("reclaim %#x: %#x, want %#x", c.gpa, got, c.want)
		}
	}
	if p, _ := r.Page(small2 + 0x1000); p.Assigned || p.Immutable {
		t.Errorf("reclaimed page is %+v", p)
	}
}

// TestVMRUN: APM vol. 2 §15.36.12, table 15-41.
func TestVMRUN(t *testing.T) {
	r := newRMP(t)
	prepare(t, r, page0, k4, true)
	prepare(t, r, 0x1000, k4, true)
	r.RMPAdjust(0, page0, k4, 1, 0, true)
	r.RMPUpdate(0x3000, k4, OwnerFirmware)
	prepare(t, r, large1, m2, true)
	r.RMPAdjust(0, large1, m2, 1, 0, true)
	for _, c := range []struct {
		what string
		gpa  x86.GPA
		want bool
	}{
		{"RMP-Covered", beyond, false},
		{"Guest-Owned", 0x2000, false},
		{"Mutable", 0x3000, false},
		{"VMSA", 0x1000, false},
		{"2 MiB", large1, false},
		{"not a page", page0 + 8, false},
		{"all hold", page0, true},
		{"in use", page0, false},
	} {
		if got := r.EnterVMSA(c.gpa); got != c.want {
			t.Errorf("%s: entered %v, want %v", c.what, got, c.want)
		}
	}
	if f := r.Check(page0, Write, 0); f != npf(snp.NPF_W) {
		t.Errorf("write to a VMSA in use: %+v", f)
	}
	r.LeaveVMSA(page0)
	r.LeaveVMSA(beyond)
	if f := r.Check(page0, Write, 0); !f.OK() {
		t.Errorf("write to a VMSA: %+v", f)
	}
	if res := r.RMPAdjust(0, page0, k4, 1, 0, false); !res.OK() || r.EnterVMSA(page0) {
		t.Errorf("a deleted VMSA still runs: %+v", res)
	}
	want := Stats{NPF: 1, Invalid: 8}
	if got := r.Stats(); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}
