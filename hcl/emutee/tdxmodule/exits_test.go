package tdxmodule

import (
	"testing"

	"keel/hcl/abi/tdx"
	"keel/hcl/tdx/l2"
)

// TestFaultExit: an L2's access that goes to L1, and one that comes through the host (ABI,
// "TDH.VP.ENTER": EPT violations).
func TestFaultExit(t *testing.T) {
	td := filled(t, nil)
	setAttributes(t, td, operand(0, 0), 1, tdx.GPA_ATTR_R)
	for _, c := range []struct {
		what string
		got  l2.Exit
		want l2.Exit
	}{
		{"not permitted", FaultExit(td.Check(8, Write, 1), 8, 0x1008), l2.Exit{Reason: 48, Qualification: 0x18a, GLA: 0x1008, GPA: 8}},
		{"pending", FaultExit(td.Check(k4+8, 0, 1), k4+8, 0), l2.Exit{Reason: 48, Qualification: 0x181, GPA: k4 + 8, Extended: 6}},
		{"a device", FaultExit(td.Check(0xfee00300, Write, 1), 0xfee00300, 0x300), l2.Exit{Status: 0x0000110000000000, Reason: 48, Qualification: 0x182, GLA: 0x300, GPA: 0xfee00300}},
		{"MMIO, write", td.MMIOFault(0xfee00300, true), l2.Exit{Status: 0x0000110000000000, Reason: 48, Qualification: 0x182, GPA: 0xfee00300}},
		{"MMIO", td.MMIOFault(0xfee00300, false), l2.Exit{Status: 0x0000110000000000, Reason: 48, Qualification: 0x181, GPA: 0xfee00300}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %+v, want %+v", c.what, c.got, c.want)
		}
	}
}

// TestRoutes: TD Partitioning, "L2 VM Exits": who handles which.
func TestRoutes(t *testing.T) {
	v := newVP(t, nil)
	v.Write(0, l2.MSRBitmapField(1, 0), 0, all) // MSRs 0 to 3f do not exit to L1
	v.Write(0, l2.VMCSField(1, tdx.VMCS_CR0_MASK), cr0CD, all)
	v.Write(0, l2.VMCSField(1, tdx.VMCS_CR4_MASK), cr4VMXE, all)
	v.Write(0, l2.VMCSField(1, tdx.VMCS_CR4_SHADOW), cr4VMXE, all)
	v.Write(0, tdx.VP_L2_CTLS+1, tdx.L2_CTLS_TDVMCALL, all)
	for _, c := range []struct {
		what            string
		exit            l2.Exit
		rax, rcx, value uint64
		want            Route
	}{
		{"NMI", l2.Exit{Interruption: 0x80000202}, 0, 0, 0, RouteHost},
		{"#MC", l2.Exit{Interruption: 0x80000312}, 0, 0, 0, RouteFatal},
		{"#PF", l2.Exit{Interruption: 0x80000b0e}, 0, 0, 0, RouteL1},
		{"external interrupt", l2.Exit{Reason: 1}, 0, 0, 0, RouteHost},
		{"INIT", l2.Exit{Reason: 3}, 0, 0, 0, RouteHost},
		{"SMI", l2.Exit{Reason: 6}, 0, 0, 0, RouteHost},
		{"bus lock", l2.Exit{Reason: 74}, 0, 0, 0, RouteHost},
		{"notify", l2.Exit{Reason: 75}, 0, 0, 0, RouteHost},
		{"triple fault", l2.Exit{Reason: 2}, 0, 0, 0, RouteL1},
		{"CPUID", l2.Exit{Reason: 10}, 0, 0, 0, RouteL1},
		{"HLT", l2.Exit{Reason: 12}, 0, 0, 0, RouteL1},
		{"I/O", l2.Exit{Reason: 30}, 0, 0, 0, RouteL1},
		{"RDMSR that L1 wants", l2.Exit{Reason: 31}, 0, 0xc0000080, 0, RouteL1},
		{"RDMSR that it does not", l2.Exit{Reason: 31}, 0, 0x10, 0, RouteModule},
		{"WRMSR that L1 wants", l2.Exit{Reason: 32}, 0, 0x10, 0, RouteL1},
		{"MOV CR0 that sets L1's bit", l2.Exit{Reason: 28}, 0, 0, cr0CD, RouteL1},
		{"MOV CR0 that does not", l2.Exit{Reason: 28}, 0, 0, 1, RouteModule},
		{"MOV CR4 that clears L1's bit", l2.Exit{Reason: 28, Qualification: 4}, 0, 0, 0, RouteL1},
		{"MOV CR4 that does not", l2.Exit{Reason: 28, Qualification: 4}, 0, 0, cr4VMXE, RouteModule},
		{"MOV CR3", l2.Exit{Reason: 28, Qualification: 3}, 0, 0, 0, RouteL1},
		{"MOV from CR0", l2.Exit{Reason: 28, Qualification: 1 << 4}, 0, 0, 0, RouteL1},
		{"CLTS", l2.Exit{Reason: 28, Qualification: 2 << 4}, 0, 0, 0, RouteL1},
		{"LMSW", l2.Exit{Reason: 28, Qualification: 3<<4 | 0xf<<16}, 0, 0, 0, RouteModule},
		{"VMCALL", l2.Exit{Reason: 18}, 0, 0, 0, RouteL1},
		{"TDG.VP.VMCALL, let through", l2.Exit{Reason: 77}, 0, 0, 0, RouteHost},
		{"another TDCALL", l2.Exit{Reason: 77}, 1, 0, 0, RouteL1},
		{"EPT violation", l2.Exit{Reason: 48}, 0, 0, 0, RouteL1},
		{"EPT misconfiguration", l2.Exit{Reason: 49}, 0, 0, 0, RouteHost},
		{"preemption timer", l2.Exit{Reason: 52}, 0, 0, 0, RouteL1},
		{"SIPI", l2.Exit{Reason: 4}, 0, 0, 0, RouteFatal},
		{"PML full", l2.Exit{Reason: 62}, 0, 0, 0, RouteFatal},
		{"invalid guest state", EntryFailure(), 0, 0, 0, RouteL1},
		{"machine check at entry", l2.Exit{Reason: 1<<31 | 41}, 0, 0, 0, RouteFatal},
		{"unknown", l2.Exit{Reason: 999}, 0, 0, 0, RouteFatal},
	} {
		if got := v.Route(1, &c.exit, c.rax, c.rcx, c.value); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
	if got := v.Route(2, &l2.Exit{Reason: 77}, 0, 0, 0); got != RouteL1 {
		t.Errorf("TDG.VP.VMCALL, not let through: %d", got)
	}
}
