package tdxmodule

import (
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
)

// Leave ends an L2's run: L1 is the current VM again, and finds the exit in its
// registers. The exit's fields are also in the L2's VMCS, whose pending event counts as
// delivered unless the entry failed. The caller has put the L2's state there before.
// Preconditions: Current is an L2.
func (v *VP) Leave(x *l2.Exit) l2.Outputs {
	vm := v.current
	v.current = tdx.VM_L1
	v.record(vm, x)
	o := l2.Outputs{
		RAX: x.Status | uint64(x.Reason), RCX: x.Qualification, RDX: x.GLA,
		RSI: v.get(vm, tdx.VMCS_GUEST_CS_SELECTOR)<<tdx.ENTER_RSI_CS_SELECTOR_SHIFT |
			v.get(vm, tdx.VMCS_GUEST_CS_AR)&0xFFFF<<tdx.ENTER_RSI_CS_AR_SHIFT |
			v.get(vm, tdx.VMCS_GUEST_CS_LIMIT)<<tdx.ENTER_RSI_CS_LIMIT_SHIFT,
		RDI: v.get(vm, tdx.VMCS_GUEST_CS_BASE),
		R8:  uint64(x.GPA),
		R9:  uint64(x.InterruptionError)<<tdx.ENTER_R9_ERROR_SHIFT | uint64(x.Interruption),
		R10: uint64(x.IDTError)<<tdx.ENTER_R10_ERROR_SHIFT | uint64(x.IDTVectoring),
		R11: uint64(x.Length)<<tdx.ENTER_R11_LENGTH_SHIFT | uint64(x.Instruction),
		R12: v.get(vm, tdx.VMCS_GUEST_SS_AR) >> 5 & tdx.ENTER_R12_CPL_MASK, // DPL of SS
		R13: x.Extended & tdx.ENTER_R13_TYPE_MASK,
	}
	return o
}

func (v *VP) record(vm int, x *l2.Exit) {
	if x.Reason&tdx.EXIT_ENTRY_FAILED == 0 {
		v.set(vm, tdx.VMCS_ENTRY_INTERRUPTION, v.get(vm, tdx.VMCS_ENTRY_INTERRUPTION)&^tdx.INTERRUPTION_VALID)
	}
	v.set(vm, tdx.VMCS_EXIT_REASON, uint64(x.Reason))
	v.set(vm, tdx.VMCS_EXIT_QUALIFICATION, x.Qualification)
	v.set(vm, tdx.VMCS_GUEST_LINEAR, x.GLA)
	v.set(vm, tdx.VMCS_GUEST_PHYSICAL, uint64(x.GPA))
	v.set(vm, tdx.VMCS_EXIT_INTERRUPTION, uint64(x.Interruption))
	v.set(vm, tdx.VMCS_EXIT_ERROR_CODE, uint64(x.InterruptionError))
	v.set(vm, tdx.VMCS_IDT_VECTORING, uint64(x.IDTVectoring))
	v.set(vm, tdx.VMCS_IDT_ERROR_CODE, uint64(x.IDTError))
	v.set(vm, tdx.VMCS_EXIT_INSTRUCTION, uint64(x.Instruction))
	v.set(vm, tdx.VMCS_EXIT_LENGTH, uint64(x.Length))
}

// FaultExit is the exit of an L2's access that Check refused. One that went to the host
// is what L1 sees if the host then resumes L1, as an honest one does (ABI,
// "TDH.VP.ENTER": RESUME_L1): all that the VMCS says of the access, without an extended
// qualification. Preconditions: the fault is FaultL1 or FaultHost.
func FaultExit(f Fault, gpa x86.GPA, gla uint64) l2.Exit {
	x := l2.Exit{Reason: tdx.EXIT_EPT_VIOLATION, Qualification: f.Qualification, GLA: gla, GPA: gpa, Extended: f.Extended}
	if f.Kind == FaultHost {
		x.Status, x.Extended = tdx.STATUS_L2_EXIT_HOST_ROUTED_ASYNC, 0
	}
	return x
}

// MMIOFault is the fault of an L2's access where there is no memory: nothing is mapped,
// the host is told, and an honest one resumes L1 (see FaultExit).
func (t *TD) MMIOFault(gpa x86.GPA, write bool) l2.Exit {
	a := Access(0)
	if write {
		a = Write
	}
	return FaultExit(Fault{Kind: FaultHost, Qualification: qualification(a)}, gpa, 0)
}

// Route says who handles an exit of an L2 (TD Partitioning, "L2 VM Exits").
type Route uint8

// The routes.
const (
	RouteHost   Route = iota // TD exit to the host, which may resume L1
	RouteL1                  // TDG.VP.ENTER returns
	RouteModule              // the module itself; the L2 goes on, or gets #GP
	RouteFatal               // the TD is dead
)

// routes holds, by basic reason, those that only depend on it.
var routes = [tdx.EXIT_REASONS]Route{
	tdx.EXIT_EXCEPTION_NMI: RouteL1, tdx.EXIT_TRIPLE_FAULT: RouteL1, tdx.EXIT_INTERRUPT_WINDOW: RouteL1,
	tdx.EXIT_NMI_WINDOW: RouteL1, tdx.EXIT_TASK_SWITCH: RouteL1, tdx.EXIT_CPUID: RouteL1, tdx.EXIT_GETSEC: RouteL1,
	tdx.EXIT_HLT: RouteL1, tdx.EXIT_INVD: RouteL1, tdx.EXIT_INVLPG: RouteL1, tdx.EXIT_RDPMC: RouteL1,
	tdx.EXIT_RDTSC: RouteL1, tdx.EXIT_RSM: RouteL1, tdx.EXIT_VMCALL: RouteL1, tdx.EXIT_VMCLEAR: RouteL1,
	tdx.EXIT_VMLAUNCH: RouteL1, tdx.EXIT_VMPTRLD: RouteL1, tdx.EXIT_VMPTRST: RouteL1, tdx.EXIT_VMREAD: RouteL1,
	tdx.EXIT_VMRESUME: RouteL1, tdx.EXIT_VMWRITE: RouteL1, tdx.EXIT_VMXOFF: RouteL1, tdx.EXIT_VMXON: RouteL1,
	tdx.EXIT_CR_ACCESS: RouteL1, tdx.EXIT_MOV_DR: RouteL1, tdx.EXIT_IO_INSTRUCTION: RouteL1,
	tdx.EXIT_MSR_READ: RouteModule, tdx.EXIT_MSR_WRITE: RouteModule, tdx.EXIT_MWAIT: RouteL1, tdx.EXIT_MONITOR: RouteL1,
	tdx.EXIT_PAUSE: RouteL1, tdx.EXIT_TPR_BELOW_THRESHOLD: RouteL1, tdx.EXIT_VIRTUALIZED_EOI: RouteL1,
	tdx.EXIT_GDTR_IDTR: RouteL1, tdx.EXIT_LDTR_TR: RouteL1, tdx.EXIT_EPT_VIOLATION: RouteL1, // see Check
	tdx.EXIT_INVEPT: RouteL1, tdx.EXIT_RDTSCP: RouteL1, tdx.EXIT_PREEMPTION_TIMER: RouteL1, tdx.EXIT_INVVPID: RouteL1,
	tdx.EXIT_WBINVD: RouteL1, tdx.EXIT_XSETBV: RouteL1, tdx.EXIT_APIC_WRITE: RouteL1, tdx.EXIT_RDRAND: RouteL1,
	tdx.EXIT_INVPCID: RouteL1, tdx.EXIT_VMFUNC: RouteL1, tdx.EXIT_ENCLS: RouteL1, tdx.EXIT_RDSEED: RouteL1,
	tdx.EXIT_XSAVES: RouteL1, tdx.EXIT_XRSTORS: RouteL1, tdx.EXIT_PCONFIG: RouteL1, tdx.EXIT_UMWAIT: RouteL1,
	tdx.EXIT_TPAUSE: RouteL1, tdx.EXIT_LOADIWKEY: RouteL1, tdx.EXIT_ENCLV: RouteL1, tdx.EXIT_ENQCMD: RouteL1,
	tdx.EXIT_ENQCMDS: RouteL1, tdx.EXIT_SEAMCALL: RouteL1, tdx.EXIT_TDCALL: RouteL1,
	71: RouteL1, // SGX conflict

	tdx.EXIT_SIPI: RouteFatal, tdx.EXIT_INVALID_GUEST_STATE: RouteFatal, tdx.EXIT_MSR_LOADING: RouteFatal, 35: RouteFatal,
	tdx.EXIT_MONITOR_TRAP: RouteFatal, 38: RouteFatal, tdx.EXIT_ENTRY_MACHINE_CHECK: RouteFatal,
	tdx.EXIT_APIC_ACCESS: RouteFatal, tdx.EXIT_PML_FULL: RouteFatal, 66: RouteFatal,
}

// Route tells who handles an exit of an L2 with these registers: RAX and RCX decide on
// TDCALL, RDMSR and WRMSR, the value on MOV to CR0 and CR4. Preconditions: the VM exists.
func (v *VP) Route(vm int, x *l2.Exit, rax, rcx, value uint64) Route {
	reason := x.Reason & tdx.EXIT_BASIC_MASK
	switch {
	case x.Reason&tdx.EXIT_ENTRY_FAILED != 0 && reason == tdx.EXIT_INVALID_GUEST_STATE:
		return RouteL1
	case x.Reason&tdx.EXIT_ENTRY_FAILED != 0 || reason >= tdx.EXIT_REASONS:
		return RouteFatal
	}
	switch reason {
	case tdx.EXIT_EXCEPTION_NMI:
		return routeException(x.Interruption)
	case tdx.EXIT_MSR_READ, tdx.EXIT_MSR_WRITE:
		if v.InterceptsMSR(vm, uint32(rcx), reason == tdx.EXIT_MSR_WRITE) {
			return RouteL1
		}
	case tdx.EXIT_CR_ACCESS:
		return v.routeCR(vm, x.Qualification, value)
	case tdx.EXIT_TDCALL:
		if rax&tdx.TDG_LEAF_MASK == tdx.TDG_VP_VMCALL && v.ctls[vm]&tdx.L2_CTLS_TDVMCALL != 0 {
			return RouteHost
		}
	}
	return routes[reason]
}

func routeException(interruption uint32) Route {
	switch {
	case interruption&tdx.INTERRUPTION_TYPE_MASK>>tdx.INTERRUPTION_TYPE_SHIFT == tdx.INTERRUPTION_NMI:
		return RouteHost
	case interruption&tdx.INTERRUPTION_VECTOR_MASK == tdx.VECTOR_MC:
		return RouteFatal
	}
	return RouteL1
}

// routeCR: MOV to CR0 and CR4 and LMSW come to L1 if they change a bit that L1 owns; else
// the module carries them out.
func (v *VP) routeCR(vm int, qualification, value uint64) Route {
	mask, shadow := uint32(tdx.VMCS_CR0_MASK), uint32(tdx.VMCS_CR0_SHADOW)
	bits := uint64(all)
	number := qualification & tdx.CR_NUMBER_MASK
	switch kind := qualification >> tdx.CR_TYPE_SHIFT & tdx.CR_TYPE_MASK; {
	case kind == tdx.CR_LMSW:
		bits, value = 0xF, qualification>>tdx.CR_LMSW_SHIFT
	case kind != tdx.CR_MOV_TO || number != 0 && number != 4:
		return RouteL1
	case number == 4:
		mask, shadow = tdx.VMCS_CR4_MASK, tdx.VMCS_CR4_SHADOW
	}
	if (value^v.get(vm, shadow))&v.get(vm, mask)&bits != 0 {
		return RouteL1
	}
	return RouteModule
}
