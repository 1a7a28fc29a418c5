package tdxmodule

import (
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// Result is what a TDCALL on memory does. If Fault is not FaultNone there is no status:
// the TD exits to the host because of GPA, and L1 executes the call again when the host
// lets it.
type Result struct {
	Status   uint64 // RAX
	RCX, RDX uint64 // outputs, of those calls that have them
	Fault    Fault
	GPA      x86.GPA
}

// OK tells whether the call succeeded.
func (r Result) OK() bool { return r.Fault.OK() && r.Status == tdx.STATUS_SUCCESS }

// failed is a status with its details.
func failed(status, details uint64) Result { return Result{Status: status | details} }

// pageInfo reads a page and its level out of RCX (ABI, "GPA_MAPPING"): no reserved bit is
// set, the level is one of the function's, the address is aligned to it, and private.
func (t *TD) pageInfo(rcx uint64, lowest, highest Level) (gpa x86.GPA, level Level, ok bool) {
	level = Level(rcx & tdx.PAGE_LEVEL_MASK)
	gpa = x86.GPA(rcx & tdx.GPA_PAGE_MASK)
	ok = rcx&tdx.PAGE_RESERVED_MASK == 0 && level >= lowest && level <= highest &&
		gpa&(1<<shiftOf(level)-1) == 0 && t.private(gpa)
	return gpa, level, ok
}

// violation is the TD exit of a function that met an entry which only the host can
// change (ABI, "Extended Exit Qualification").
func violation(gpa x86.GPA, wanted Level, e entry, at Level, kind uint64) Result {
	info := uint64(wanted)<<tdx.EEQ_REQUESTED_LEVEL_SHIFT | uint64(at)<<tdx.EEQ_ERROR_LEVEL_SHIFT |
		e.state()<<tdx.EEQ_ERROR_STATE_SHIFT
	if e&present != 0 {
		info |= tdx.EEQ_ERROR_LEAF
	}
	return Result{GPA: gpa, Fault: Fault{FaultHost, tdx.EPT_WRITE | e.rwx(), kind | info<<tdx.EEQ_INFO_SHIFT}}
}

// Accept is TDG.MEM.PAGE.ACCEPT: L1 takes a page of 4 KiB or 2 MiB that the host has
// added (ABI, that leaf). The L2 VMs get what attributes they have been given before. The
// page is cleared before anybody can use it: by the memory, unless that is nil.
func (t *TD) Accept(rcx uint64, memory GuestMemory) (Result, error) {
	r, err := t.accept(rcx, memory)
	t.stats.result(r)
	return r, err
}

func (t *TD) accept(rcx uint64, memory GuestMemory) (Result, error) {
	gpa, level, ok := t.pageInfo(rcx, tdx.LEVEL_4K, tdx.LEVEL_2M)
	if !ok {
		return failed(tdx.STATUS_OPERAND_INVALID, tdx.OPERAND_RCX), nil
	}
	if !t.covered(gpa) {
		return violation(gpa, level, 0, tdx.LEVEL_1G, tdx.EEQ_ACCEPT), nil
	}
	g := t.lock(gpa)
	defer g.mu.Unlock()
	e, at := t.walk(gpa, level)
	switch {
	case e.accessible():
		return failed(tdx.STATUS_PAGE_ALREADY_ACCEPTED, uint64(at)), nil
	case at != level:
		return violation(gpa, level, e, at, tdx.EEQ_ACCEPT), nil
	case e&table != 0:
		return failed(tdx.STATUS_PAGE_SIZE_MISMATCH, uint64(at)), nil
	case !e.acceptable():
		return violation(gpa, level, e, at, tdx.EEQ_ACCEPT), nil
	}
	if memory != nil {
		if err := memory.Clear(gpa, 1<<shiftOf(level)); err != nil {
			return Result{}, err
		}
	}
	t.store(gpa, at, e&^pending)
	return Result{}, nil
}
