package emutee

import "keel/hcl/abi/x86"

// EnterVMSA is what VMRUN checks and does about the page that it runs a VP from
// (§15.36.12, table 15-41): the page must be the guest's and marked as a VMSA, in
// an entry of 4 KiB. Until LeaveVMSA it is in use: nobody else touches it. On
// refusal VMRUN ends at once, with EXIT_INVALID.
func (r *RMP) EnterVMSA(gpa x86.GPA) bool {
	if gpa&(x86.PageSize-1) != 0 || !r.covered(gpa) {
		r.stats.add(countInvalid)
		return false
	}
	g := r.lock(gpa)
	defer g.mu.Unlock()
	e := r.lookup(gpa)
	if !e.usable() || e&(vmsaPage|large) != vmsaPage {
		r.stats.add(countInvalid)
		return false
	}
	r.store(g, gpa, e|inUse)
	return true
}

// LeaveVMSA ends the use of a VMSA, as #VMEXIT does.
func (r *RMP) LeaveVMSA(gpa x86.GPA) {
	if !r.covered(gpa) {
		return
	}
	g := r.lock(gpa)
	defer g.mu.Unlock()
	if e := r.lookup(gpa); e&inUse != 0 {
		r.store(g, gpa, e&^inUse)
	}
}
