package emutee

import (
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// PageSize is the size that an instruction on the RMP names in RCX:
// snp.RMP_PG_SIZE_4K or snp.RMP_PG_SIZE_2M.
type PageSize uint8

// Result is what an instruction on the RMP does: it faults, or it ends with a
// return code in EAX.
type Result struct {
	Fault Fault
	Code  uint32 // snp.RMP_SUCCESS and so on, when there is no fault
	// Unchanged is the carry flag of a PVALIDATE that succeeded: the page was
	// in the wanted state already.
	Unchanged bool
}

// OK tells whether the instruction succeeded, changed or not.
func (r Result) OK() bool { return r.Fault.OK() && r.Code == snp.RMP_SUCCESS }

// PValidate is the instruction PVALIDATE at CPL 0: it sets or clears a page's
// validated flag (§15.36.6; vol. 3, "PVALIDATE"). Bits 11:0 of the address are
// ignored. Only VMPL0 may execute it, another gets #GP.
func (r *RMP) PValidate(vmpl uint8, gpa x86.GPA, size PageSize, validate bool) Result {
	res := r.pvalidate(vmpl, gpa, size, validate)
	r.stats.result(res)
	return res
}

func (r *RMP) pvalidate(vmpl uint8, gpa x86.GPA, size PageSize, validate bool) Result {
	if vmpl != snp.VMPL0 {
		return Result{Fault: Fault{FaultGP, 0}}
	}
	if !aligned(gpa, size) {
		return Result{Code: snp.RMP_FAIL_INPUT}
	}
	if !r.covered(gpa) {
		return Result{Fault: instructionFault}
	}
	g := r.lock(gpa)
	defer g.mu.Unlock()
	e := r.lookup(gpa)
	if f := reachable(e, size); !f.OK() {
		return Result{Fault: f}
	}
	if size == snp.RMP_PG_SIZE_2M && e&large == 0 {
		return Result{Code: snp.RMP_FAIL_SIZEMISMATCH}
	}
	if e&validated != 0 == validate {
		return Result{Unchanged: true}
	}
	r.store(g, gpa, e^validated)
	return Result{}
}

// RMPAdjust is the instruction RMPADJUST at CPL 0: it sets what a VMPL beneath
// the current one may do with a page (§15.36.7; vol. 3, "RMPADJUST"). At VMPL0 it
// also makes a page a VMSA or ends that; at others setVMSA is ignored. Reserved
// bits of the permissions are refused.
func (r *RMP) RMPAdjust(vmpl uint8, gpa x86.GPA, size PageSize, target, permissions uint8, setVMSA bool) Result {
	res := r.rmpadjust(vmpl, gpa, size, target, permissions, setVMSA)
	r.stats.result(res)
	return res
}

func (r *RMP) rmpadjust(vmpl uint8, gpa x86.GPA, size PageSize, target, permissions uint8, setVMSA bool) Result {
	if !aligned(gpa, size) || target >= snp.VMPLS || permissions&^snp.RMP_ALL != 0 {
		return Result{Code: snp.RMP_FAIL_INPUT}
	}
	if target <= vmpl {
		return Result{Code: snp.RMP_FAIL_PERMISSION}
	}
	if !r.covered(gpa) {
		return Result{Fault: instructionFault}
	}
	g := r.lock(gpa)
	defer g.mu.Unlock()
	e := r.lookup(gpa)
	if f := reachable(e, size); !f.OK() {
		return Result{Fault: f}
	}
	switch {
	case e&validated == 0:
		return Result{Fault: notValidated}
	case size == snp.RMP_PG_SIZE_2M && e&large == 0:
		return Result{Code: snp.RMP_FAIL_SIZEMISMATCH}
	case permissions&^e.permissions(vmpl) != 0:
		return Result{Code: snp.RMP_FAIL_PERMISSION} // nobody grants what he lacks
	}
	e = e.with(target, permissions)
	if vmpl == snp.VMPL0 {
		e &^= vmsaPage
		if setVMSA {
			e |= vmsaPage
		}
	}
	r.store(g, gpa, e)
	return Result{}
}

// Query is what RMPQUERY returns in RDX and RCX.
type Query struct {
	Permissions uint8
	VMSA        bool
	Size        PageSize
}

// RMPQuery is the instruction RMPQUERY at CPL 0: what a VMPL, the current one or
// one beneath it, may do with a page (vol. 3, "RMPQUERY").
func (r *RMP) RMPQuery(vmpl uint8, gpa x86.GPA, target uint8) (Query, Result) {
	q, res := r.rmpquery(vmpl, gpa, target)
	r.stats.result(res)
	return q, res
}

func (r *RMP) rmpquery(vmpl uint8, gpa x86.GPA, target uint8) (Query, Result) {
	if target >= snp.VMPLS {
		return Query{}, Result{Code: snp.RMP_FAIL_INPUT}
	}
	if target < vmpl {
		return Query{}, Result{Code: snp.RMP_FAIL_PERMISSION}
	}
	if !r.covered(gpa) {
		return Query{}, Result{Fault: instructionFault}
	}
	e := r.lookup(gpa)
	if !e.usable() {
		return Query{}, Result{Fault: instructionFault}
	}
	if e&validated == 0 {
		return Query{}, Result{Fault: notValidated}
	}
	q := Query{Permissions: e.permissions(target), VMSA: e&vmsaPage != 0}
	if e&large != 0 {
		q.Size = snp.RMP_PG_SIZE_2M
	}
	return q, Result{}
}

// instructionFault is the exit of an instruction on a page that is not the
// guest's to change. The instructions check their operand as a read does.
var instructionFault = Fault{FaultNPF, errorCode(0) | snp.NPF_ENC}

// reachable is what an instruction finds before it looks at a page's state: the
// page is the guest's, and its entry is not larger than what is asked for. The
// host then splits the entry and lets the guest try again (table 15-40).
func reachable(e entry, size PageSize) Fault {
	switch {
	case !e.usable():
		return instructionFault
	case size == snp.RMP_PG_SIZE_4K && e&large != 0:
		return Fault{FaultNPF, instructionFault.Code | snp.NPF_SIZEM}
	}
	return Fault{}
}

// aligned tells whether a size exists and the address suits it.
func aligned(gpa x86.GPA, size PageSize) bool {
	return size == snp.RMP_PG_SIZE_4K ||
		size == snp.RMP_PG_SIZE_2M && gpa&(x86.LargePageSize-x86.PageSize) == 0
}
