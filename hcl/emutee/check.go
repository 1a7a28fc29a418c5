package emutee

import (
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// Access says what a guest does to a page. Without a flag it is a supervisor's
// read of private data.
type Access uint8

// Flags of an access. Fetches and page table walks are private whatever the C
// bit says (§15.34.5).
const (
	Write       Access = 1 << iota // also an update of accessed or dirty bits
	Fetch                          // of an instruction
	User                           // CPL 3
	ShadowStack                    // by CALL, RET and their like, with CET
	Table                          // walk of the guest's page table
	Shared                         // the C bit is 0, or the address lies at or above virtual TOM
	Nested4K                       // the nested page table maps the page in 4 KiB
	Nested2M                       // or in 2 MiB; with neither flag it agrees with the RMP
)

// FaultKind is how hardware refuses.
type FaultKind uint8

// The faults.
const (
	FaultNone FaultKind = iota
	FaultNPF            // exit to the host: EXIT_NPF, Code is EXITINFO1
	FaultVC             // #VC in the guest, or an exit where it is reflected: Code is the error code
	FaultGP             // #GP(0) in the guest
	faultKinds
)

// Fault is the outcome of a check; the zero value allows the access.
type Fault struct {
	Kind FaultKind
	Code uint64
}

// OK tells whether nothing is refused.
func (f Fault) OK() bool { return f.Kind == FaultNone }

// notValidated is the fault of an access to a page that the guest has not
// accepted (§15.36.10).
var notValidated = Fault{FaultVC, snp.EXIT_PAGE_NOT_VALIDATED}

// Check says what an access of a VMPL does, by the checks of table 15-39 and in
// their order: what the guest's and the nested page table allow has been looked
// at before. A VMPL that does not exist may do nothing.
func (r *RMP) Check(gpa x86.GPA, a Access, vmpl uint8) Fault {
	f := r.check(gpa, a, vmpl)
	if f.Kind != FaultNone {
		r.stats.fault(f)
	}
	return f
}

func (r *RMP) check(gpa x86.GPA, a Access, vmpl uint8) Fault {
	if a&Shared != 0 && a&(Fetch|Table) == 0 {
		if a&Write != 0 && !r.hostOwned(gpa, a) {
			return Fault{FaultNPF, errorCode(a)}
		}
		return Fault{} // a read of shared data meets no check
	}
	if !r.covered(gpa) {
		return Fault{FaultNPF, errorCode(a) | snp.NPF_ENC}
	}
	e := r.lookup(gpa)
	switch {
	case !e.usable() || !sizeFits(e, a):
		return Fault{FaultNPF, errorCode(a) | snp.NPF_ENC | r.sssBit(e, vmpl)}
	case e&validated == 0:
		return notValidated
	case !r.permits(e.permissions(vmpl), a):
		return Fault{FaultNPF, errorCode(a) | snp.NPF_ENC | snp.NPF_VMPL | r.sssBit(e, vmpl)}
	}
	return Fault{}
}

// hostOwned is Hypervisor-Owned: what the RMP does not cover belongs to the host
// for ever, and a 2 MiB mapping must not contain a single page of the guest.
func (r *RMP) hostOwned(gpa x86.GPA, a Access) bool {
	if !r.covered(gpa) {
		return true
	}
	if a&Nested2M == 0 {
		return r.lookup(gpa)&assigned == 0
	}
	first := gpa &^ (x86.LargePageSize - 1)
	for i := range x86.GPA(pagesPerRegion) {
		if r.lookup(first+i<<x86.PageShift)&assigned != 0 {
			return false
		}
	}
	return true
}

// sizeFits is Page-Size: the nested page table and the RMP must agree.
func sizeFits(e entry, a Access) bool {
	switch {
	case a&Nested4K != 0:
		return e&large == 0
	case a&Nested2M != 0:
		return e&large != 0
	}
	return true
}

// permits is the VMPL check of §15.36.7.
func (r *RMP) permits(p uint8, a Access) bool {
	if a&Fetch != 0 {
		if a&User != 0 {
			return p&snp.RMP_UX != 0
		}
		return p&snp.RMP_SX != 0
	}
	need := uint8(snp.RMP_R) // writing without reading is an illegal setting
	if a&Write != 0 {
		need |= snp.RMP_W
	}
	if r.sss && a&(ShadowStack|User) == ShadowStack {
		need |= snp.RMP_SSS
	}
	return p&need == need
}

// sssBit is bit 37 of EXITINFO1: the page's own SSS permission.
func (r *RMP) sssBit(e entry, vmpl uint8) uint64 {
	if r.sss && e.permissions(vmpl)&snp.RMP_SSS != 0 {
		return snp.NPF_SSS
	}
	return 0
}

// errorCode describes an access as EXITINFO1 does, with the RMP bit. The page is
// present, because RMP checks come after those of the page tables, and the
// nested table takes every access for a user's (§15.25.6).
func errorCode(a Access) uint64 {
	code := uint64(snp.NPF_P | snp.NPF_US | snp.NPF_RMP)
	for _, b := range [...]struct {
		flag Access
		bit  uint64
	}{{Write, snp.NPF_W}, {Fetch, snp.NPF_ID}, {ShadowStack, snp.NPF_SS}} {
		if a&b.flag != 0 {
			code |= b.bit
		}
	}
	if a&Table != 0 {
		return code | snp.NPF_TABLE
	}
	return code | snp.NPF_FINAL
}
