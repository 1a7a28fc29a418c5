package tdxmodule

import (
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
)

// Enter is what TDG.VP.ENTER checks before it enters an L2: RCX names the VM, RDX says
// where its state lies; interrupt tells whether L1 has a virtual interrupt to take first
// (ABI, that leaf). If the result is OK, Current is the L2 from then on. A page that the
// module needs and cannot have leads to the host: the state, and the virtual APIC page.
func (v *VP) Enter(rcx, rdx uint64, interrupt bool) Result {
	r := v.enter(rcx, rdx, interrupt)
	v.td.stats.result(r)
	return r
}

func (v *VP) enter(rcx, rdx uint64, interrupt bool) Result {
	state, vm := x86.GPA(rdx), int(rcx>>tdx.VM_FLAGS_VM_SHIFT&tdx.VM_FLAGS_VM_MASK)
	switch {
	case state%tdx.L2_STATE_ALIGN != 0 || !v.td.private(state):
		return failed(tdx.STATUS_OPERAND_INVALID, tdx.OPERAND_RDX)
	case !v.exists(vm) || rcx&tdx.VM_FLAGS_RESERVED_MASK != 0:
		return failed(tdx.STATUS_OPERAND_INVALID, tdx.OPERAND_RCX)
	case v.get(vm, tdx.VMCS_VIRTUAL_APIC) == null:
		return failed(tdx.STATUS_OPERAND_INVALID, tdx.OPERAND_L2_VAPIC_GPA)
	case interrupt:
		return failed(tdx.STATUS_PENDING_INTERRUPT, 0)
	}
	for _, gpa := range [...]x86.GPA{state, x86.GPA(v.get(vm, tdx.VMCS_VIRTUAL_APIC))} {
		if e, _ := v.td.walk(gpa, tdx.LEVEL_4K); !e.accessible() {
			return Result{GPA: gpa &^ (x86.PageSize - 1), Fault: Fault{Kind: FaultHost}}
		}
	}
	v.l2[vm].state = state
	v.current = vm
	return Result{}
}

// StateGPA is where the L2 that runs has its L2_ENTER_GUEST_STATE.
// Preconditions: Current is an L2.
func (v *VP) StateGPA() x86.GPA { return v.l2[v.current].state }

// Load puts a state into an L2's VMCS, as entering does, and Save takes it from there, as
// leaving does. The general purpose registers are in no VMCS: they stay in the state.
// Preconditions of both: the VM exists.
func (v *VP) Load(vm int, s *l2.EnterState) {
	v.set(vm, tdx.VMCS_GUEST_RSP, s.Registers.RSP)
	v.set(vm, tdx.VMCS_GUEST_RIP, s.Registers.RIP)
	v.set(vm, tdx.VMCS_GUEST_RFLAGS, s.Registers.RFLAGS)
	v.set(vm, tdx.VMCS_GUEST_SSP, s.SSP)
	v.set(vm, tdx.VMCS_GUEST_INTERRUPT, uint64(s.InterruptStatus))
}

// Save is the other direction of Load.
func (v *VP) Save(vm int, s *l2.EnterState) {
	s.Registers.RSP = v.get(vm, tdx.VMCS_GUEST_RSP)
	s.Registers.RIP = v.get(vm, tdx.VMCS_GUEST_RIP)
	s.Registers.RFLAGS = v.get(vm, tdx.VMCS_GUEST_RFLAGS)
	s.SSP = v.get(vm, tdx.VMCS_GUEST_SSP)
	s.InterruptStatus = uint16(v.get(vm, tdx.VMCS_GUEST_INTERRUPT))
}

// InvEPT is TDG.VP.INVEPT: it flushes the translations of the L2 VMs in a mask (ABI, that
// leaf). This machine has none.
func (v *VP) InvEPT(rcx uint64) uint64 {
	status := uint64(tdx.STATUS_SUCCESS)
	if rcx&1 != 0 || rcx>>len(v.l2) != 0 {
		status = tdx.STATUS_OPERAND_INVALID | tdx.OPERAND_RCX
	}
	return v.td.stats.status(status)
}

// InvGLA is TDG.VP.INVGLA: it flushes an L2's translations of linear addresses, those of
// one entry in RDX or of a list whose private page RDX names (ABI, that leaf). The second
// result is where the list lies; its entries are checked by InvGLAEntry.
func (v *VP) InvGLA(rcx, rdx uint64) (Result, x86.GPA) {
	r, list := v.invGLA(rcx, rdx)
	v.td.stats.result(r)
	return r, list
}

func (v *VP) invGLA(rcx, rdx uint64) (Result, x86.GPA) {
	vm := int(rcx >> tdx.VM_FLAGS_VM_SHIFT & tdx.VM_FLAGS_VM_MASK)
	const known = tdx.GLA_LIST | tdx.VM_FLAGS_VM_MASK<<tdx.VM_FLAGS_VM_SHIFT
	if !v.exists(vm) || rcx&^known != 0 {
		return failed(tdx.STATUS_OPERAND_INVALID, tdx.OPERAND_RCX), 0
	}
	if rcx&tdx.GLA_LIST == 0 {
		return Result{Status: InvGLAEntry(rdx)}, 0
	}
	list := x86.GPA(rdx & tdx.GPA_PAGE_MASK)
	first, number := rdx&tdx.GLA_LIST_FIRST_MASK, rdx>>tdx.GLA_LIST_NUMBER_SHIFT&tdx.GLA_LIST_NUMBER_MASK
	if rdx&tdx.GLA_LIST_RESERVED_MASK != 0 || first+number > tdx.GLA_LIST_MAX_ENTRIES || !v.td.private(list) {
		return failed(tdx.STATUS_OPERAND_INVALID, tdx.OPERAND_RDX), 0
	}
	r, _ := v.td.reach(list, 0)
	// What is left of the list when all has been done.
	r.RDX = rdx&^(tdx.GLA_LIST_FIRST_MASK|tdx.GLA_LIST_NUMBER_MASK<<tdx.GLA_LIST_NUMBER_SHIFT) | (first+number)&tdx.GLA_LIST_FIRST_MASK
	return r, list
}

// InvGLAEntry judges one entry: the address of a page, and in bits 11:0 how many follow
// it. All must be canonical, of 48 bits.
func InvGLAEntry(entry uint64) uint64 {
	first := entry &^ tdx.GLA_ENTRY_LAST_MASK
	last := first + entry&tdx.GLA_ENTRY_LAST_MASK*x86.PageSize
	if !canonical(first) || !canonical(last) || first>>63 != last>>63 {
		return tdx.STATUS_GLA_NOT_CANONICAL
	}
	return tdx.STATUS_SUCCESS
}

func canonical(address uint64) bool { return uint64(int64(address<<16)>>16) == address }
