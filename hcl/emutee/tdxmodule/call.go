package tdxmodule

import (
	"encoding/binary"

	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
)

// GuestMemory is the TD's memory, for operands that lie there. An error means that the
// substrate broke: which accesses are allowed has been checked before. The operands of
// TDG.MR.REPORT may lie in shared memory; the address then has the shared bit.
type GuestMemory interface {
	Read(gpa x86.GPA, b []byte) error
	Write(gpa x86.GPA, b []byte) error
	// Clear zeroes a page that L1 accepts. It must not call the TD.
	Clear(gpa x86.GPA, length uint64) error
}

// buffers hold what a call moves, so that no call allocates.
type buffers struct {
	digest Digest
	data   [tdx.REPORT_DATA_SIZE]byte
	report [tdx.REPORT_SIZE]byte
	entry  [tdx.GLA_LIST_ENTRY_SIZE]byte
	info   Info
	guest  guest
}

// Outcome says how a TDCALL ends.
type Outcome uint8

// The outcomes.
const (
	OutcomeReturn Outcome = iota // L1 goes on behind TDCALL
	OutcomeEnter                 // the L2 named by Current runs; Leave ends that
	OutcomeHost                  // TDG.VP.VMCALL: the host reads the registers that RCX selects
	OutcomeFault                 // TD exit or exception; L1 executes TDCALL again
)

// Called is what Call returns; Fault and GPA belong to OutcomeFault.
type Called struct {
	Outcome Outcome
	Fault   Fault
	GPA     x86.GPA
}

// Call is TDCALL of L1 (ABI, "Guest-Side (TDCALL) Interface Functions"). interrupt tells
// whether L1 has a virtual interrupt to take before it enters an L2. The error means that
// the substrate broke.
func (v *VP) Call(r *l2.Registers, memory GuestMemory, interrupt bool) (Called, error) {
	leaf, version := r.RAX&tdx.TDG_LEAF_MASK, r.RAX>>tdx.TDG_VERSION_SHIFT&tdx.TDG_VERSION_MASK
	if r.RAX&tdx.TDG_RESERVED_RAX_MASK != 0 || version > 1 || version == 1 && leaf != tdx.TDG_VM_RD {
		return v.refuse(r, tdx.OPERAND_RAX), nil
	}
	switch leaf {
	case tdx.TDG_VP_VMCALL:
		if r.RCX>>32 != 0 || r.RCX&tdx.VMCALL_GPR_FORBIDDEN != 0 {
			return v.refuse(r, tdx.OPERAND_RCX), nil
		}
		return Called{Outcome: OutcomeHost}, nil
	case tdx.TDG_VP_INFO:
		i := v.Info()
		r.RAX, r.RCX, r.RDX, r.R8, r.R9, r.R10, r.R11 = tdx.STATUS_SUCCESS, i.Width, i.Attributes, i.VPs, i.Index, i.Functions, 0
	case tdx.TDG_VP_VEINFO_GET:
		i, status := v.TakeVE()
		r.RAX, r.RCX, r.RDX, r.R8, r.R9, r.R10 = status, i.Reason, i.Qualification, i.GLA, uint64(i.GPA), i.Instruction
	case tdx.TDG_VP_CPUIDVE_SET:
		r.RAX = v.setCPUIDVE(r.RCX)
	case tdx.TDG_VP_RD:
		f := v.Read(r.RCX, r.RDX)
		r.RAX, r.RDX, r.R8 = f.Status, f.Next, f.Value
	case tdx.TDG_VP_WR:
		f := v.Write(r.RCX, r.RDX, r.R8, r.R9)
		r.RAX, r.R8 = f.Status, f.Value
	case tdx.TDG_VP_INVEPT:
		r.RAX = v.InvEPT(r.RCX)
	default:
		return v.callMemory(leaf, r, memory, interrupt)
	}
	return Called{}, nil
}

// callMemory are the leaves that work on memory.
func (v *VP) callMemory(leaf uint64, r *l2.Registers, memory GuestMemory, interrupt bool) (Called, error) {
	switch leaf {
	case tdx.TDG_VP_ENTER:
		return v.callEnter(r, interrupt), nil
	case tdx.TDG_VP_INVGLA:
		return v.callInvGLA(r, memory)
	case tdx.TDG_MR_RTMR_EXTEND:
		return v.callExtend(r, memory)
	case tdx.TDG_MR_REPORT:
		return v.callReport(r, memory)
	}
	return v.td.Call(r, memory)
}

// Call is TDCALL for the leaves that ask for no VP, TDG.MEM.* and TDG.VM.*; it may be
// called from any thread. Others it refuses.
func (t *TD) Call(r *l2.Registers, memory GuestMemory) (Called, error) {
	leaf, version := r.RAX&tdx.TDG_LEAF_MASK, r.RAX>>tdx.TDG_VERSION_SHIFT
	var result Result
	switch {
	case version == 0 && leaf == tdx.TDG_MEM_PAGE_ACCEPT:
		accepted, err := t.Accept(r.RCX, memory)
		if err != nil {
			return Called{}, err
		}
		return end(r, accepted), nil
	case version == 0 && leaf == tdx.TDG_MEM_PAGE_ATTR_RD:
		result = t.ReadAttributes(r.RCX)
	case version == 0 && leaf == tdx.TDG_MEM_PAGE_ATTR_WR:
		result = t.WriteAttributes(r.RCX, r.RDX, r.R8)
	case version <= 1 && leaf == tdx.TDG_VM_RD:
		f := t.Read(r.RCX, r.RDX)
		r.RAX, r.R8 = f.Status, f.Value
		if version > 0 {
			r.RDX = f.Next
		}
		return Called{}, nil
	case version == 0 && leaf == tdx.TDG_VM_WR:
		f := t.Write(r.RCX, r.RDX, r.R8, r.R9)
		r.RAX, r.R8 = f.Status, f.Value
		return Called{}, nil
	default:
		r.RAX = t.stats.status(tdx.STATUS_OPERAND_INVALID | tdx.OPERAND_RAX)
		return Called{}, nil
	}
	if !result.Fault.OK() {
		return faulted(result), nil
	}
	r.RAX, r.RCX, r.RDX = result.Status, result.RCX, result.RDX
	return Called{}, nil
}

func faulted(r Result) Called { return Called{Outcome: OutcomeFault, Fault: r.Fault, GPA: r.GPA} }

func (v *VP) refuse(r *l2.Registers, operand uint64) Called {
	r.RAX = v.td.stats.status(tdx.STATUS_OPERAND_INVALID | operand)
	return Called{}
}

// end stores a status, or tells of the fault.
func end(r *l2.Registers, result Result) Called {
	if !result.Fault.OK() {
		return faulted(result)
	}
	r.RAX = result.Status
	return Called{}
}

func (v *VP) callEnter(r *l2.Registers, interrupt bool) Called {
	result := v.Enter(r.RCX, r.RDX, interrupt)
	called := end(r, result)
	if result.OK() {
		called.Outcome = OutcomeEnter
	}
	return called
}

func (v *VP) callInvGLA(r *l2.Registers, memory GuestMemory) (Called, error) {
	result, list := v.InvGLA(r.RCX, r.RDX)
	called := end(r, result)
	if !result.OK() || r.RCX&tdx.GLA_LIST == 0 {
		return called, nil
	}
	first, number := r.RDX&tdx.GLA_LIST_FIRST_MASK, r.RDX>>tdx.GLA_LIST_NUMBER_SHIFT&tdx.GLA_LIST_NUMBER_MASK
	b := v.buffers.entry[:]
	for i := range number {
		if err := memory.Read(list+x86.GPA((first+i)*tdx.GLA_LIST_ENTRY_SIZE), b); err != nil {
			return Called{}, err
		}
		if r.RAX = InvGLAEntry(binary.LittleEndian.Uint64(b)); r.RAX != tdx.STATUS_SUCCESS {
			v.td.stats.status(r.RAX)
			return called, nil
		}
	}
	r.RDX = result.RDX
	return called, nil
}

func (v *VP) callExtend(r *l2.Registers, memory GuestMemory) (Called, error) {
	gpa := x86.GPA(r.RCX)
	// The data are read where that is harmless; Extend judges the address.
	if e, _ := v.td.walk(gpa, tdx.LEVEL_4K); gpa%tdx.RTMR_EXTEND_ALIGN == 0 && v.td.private(gpa) && e.accessible() {
		if err := memory.Read(gpa, v.buffers.digest[:]); err != nil {
			return Called{}, err
		}
	}
	return end(r, v.td.Extend(r.RCX, r.RDX, &v.buffers.digest)), nil
}

func (v *VP) callReport(r *l2.Registers, memory GuestMemory) (Called, error) {
	result := v.td.CheckReport(r.RCX, r.RDX, r.R8)
	if result.OK() && v.td.config.Reporter == nil {
		return v.refuse(r, tdx.OPERAND_RAX), nil
	}
	if !result.OK() {
		return end(r, result), nil
	}
	b := &v.buffers
	if err := memory.Read(x86.GPA(r.RDX), b.data[:]); err != nil {
		return Called{}, err
	}
	b.info = v.td.Info()
	if err := v.td.config.Reporter.Report(&b.info, &b.data, &b.report); err != nil {
		return Called{}, err
	}
	if err := memory.Write(x86.GPA(r.RCX), b.report[:]); err != nil {
		return Called{}, err
	}
	return end(r, result), nil
}

// setCPUIDVE is TDG.VP.CPUIDVE.SET: CPUID of L1 raises #VE, in supervisor mode by bit 0,
// in user mode by bit 1 (ABI, that leaf).
func (v *VP) setCPUIDVE(rcx uint64) uint64 {
	if rcx>>2 != 0 {
		return v.td.stats.status(tdx.STATUS_OPERAND_INVALID | tdx.OPERAND_RCX)
	}
	v.supervisorVE, v.userVE = uint8(rcx&1), uint8(rcx>>1)
	return tdx.STATUS_SUCCESS
}
