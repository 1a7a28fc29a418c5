package l2

import (
	"bytes"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/tdx"
)

// TestExits: what exits of VMX (SDM vol. 3 appendix C and the tables of exit
// qualifications) mean above, and which a backend keeps to itself.
func TestExits(t *testing.T) {
	pio := func(e hcl.Exit) hcl.Exit { e.Kind = hcl.ExitPIO; return e }
	for _, c := range []struct {
		what string
		exit Exit
		want hcl.Exit
		ok   bool
	}{
		{"OUT 3f8h, AL", Exit{Reason: 30, Qualification: 0x3f8<<16 | 1<<6}, pio(hcl.Exit{Write: true, Size: 1, Port: 0x3f8, Data: []byte{0x88}}), true},
		{"OUT DX, EAX", Exit{Reason: 30, Qualification: 0xcf8<<16 | 3}, pio(hcl.Exit{Write: true, Size: 4, Port: 0xcf8, Data: []byte{0x88, 0x77, 0x66, 0x55}}), true},
		{"IN AX, DX", Exit{Reason: 30, Qualification: 0x1f0<<16 | 1<<3 | 1}, pio(hcl.Exit{Size: 2, Port: 0x1f0, Data: []byte{0, 0}}), true},
		{"REP OUTSB", Exit{Reason: 30, Qualification: 0x3f8<<16 | 3<<4}, pio(hcl.Exit{Write: true, Size: 1, Port: 0x3f8}), false},
		{"three bytes", Exit{Reason: 30, Qualification: 0x3f8<<16 | 2}, pio(hcl.Exit{Write: true, Size: 3, Port: 0x3f8}), false},
		{"RDMSR", Exit{Reason: 31}, hcl.Exit{Kind: hcl.ExitMSRRead, MSR: 0xc0000080}, true},
		{"WRMSR", Exit{Reason: 32}, hcl.Exit{Kind: hcl.ExitMSRWrite, MSR: 0xc0000080, Value: 0xddccbbaa55667788}, true},
		{"HLT", Exit{Reason: 12, Length: 1}, hcl.Exit{Kind: hcl.ExitHalt, RIP: 0x1001}, true},
		{"external interrupt", Exit{Reason: 1}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"INIT", Exit{Reason: 3}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"I/O SMI", Exit{Reason: 5}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"other SMI", Exit{Reason: 6}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"PAUSE", Exit{Reason: 40}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"TSC deadline", Exit{Reason: 52}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"bus lock", Exit{Reason: 74}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"notify", Exit{Reason: 75}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"pending interrupt", Exit{Status: tdx.STATUS_PENDING_INTERRUPT, Reason: 12}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"L2 left for an interrupt", Exit{Status: tdx.STATUS_L2_EXIT_PENDING_INTERRUPT, Reason: 1}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"interrupt window", Exit{Reason: 7}, hcl.Exit{Kind: hcl.ExitInterruptWindow}, true},
		{"TPR below threshold", Exit{Reason: 43}, hcl.Exit{Kind: hcl.ExitTPR}, true},
		{"MOV CR8, RAX", Exit{Reason: 28, Qualification: 8}, hcl.Exit{Kind: hcl.ExitTPR}, true},
		{"triple fault", Exit{Reason: 2}, hcl.Exit{Kind: hcl.ExitShutdown}, true},
		{
			"EPT violation, write",
			Exit{Reason: 48, Qualification: 0x18a, GPA: 0x12345678},
			hcl.Exit{Kind: hcl.ExitMemoryFault, Write: true, GPA: 0x12345678, Value: 0x18a},
			true,
		},
		{
			"EPT violation, routed by the host",
			Exit{Status: tdx.STATUS_L2_EXIT_HOST_ROUTED_ASYNC, Reason: 48, Qualification: 1, GPA: 0xfee00000},
			hcl.Exit{Kind: hcl.ExitMemoryFault, GPA: 0xfee00000, Value: 1},
			true,
		},
		{"invalid guest state", Exit{Reason: 1<<31 | 33}, hcl.Exit{Kind: hcl.ExitEmulationFailed, Value: 1<<31 | 33}, true},

		{"MOV RAX, CR8", Exit{Reason: 28, Qualification: 8 | 1<<4}, hcl.Exit{}, false},
		{"MOV CR0, RAX", Exit{Reason: 28}, hcl.Exit{}, false},
		{"exception", Exit{Reason: 0}, hcl.Exit{}, false},
		{"NMI window", Exit{Reason: 8}, hcl.Exit{}, false},
		{"task switch", Exit{Reason: 9}, hcl.Exit{}, false},
		{"CPUID", Exit{Reason: 10}, hcl.Exit{}, false},
		{"VMCALL", Exit{Reason: 18}, hcl.Exit{}, false},
		{"MOV DR", Exit{Reason: 29}, hcl.Exit{}, false},
		{"APIC write", Exit{Reason: 56}, hcl.Exit{}, false},
		{"virtualized EOI", Exit{Reason: 45}, hcl.Exit{}, false},
		{"WBINVD", Exit{Reason: 54}, hcl.Exit{}, false},
		{"XSETBV", Exit{Reason: 55}, hcl.Exit{}, false},
		{"TDCALL", Exit{Reason: 77}, hcl.Exit{}, false},
		{"unknown", Exit{Reason: 0x7777}, hcl.Exit{}, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := hcl.Registers{RAX: 0x1122334455667788, RCX: 0xffffffffc0000080, RDX: 0xaabbccddddccbbaa, RIP: 0x1000}
			if c.want.RIP == 0 {
				c.want.RIP = 0x1000
			}
			var buffer [4]byte
			got, ok := c.exit.HCLExit(&r, &buffer)
			if ok != c.ok {
				t.Fatalf("above: %v, want %v", ok, c.ok)
			}
			if !bytes.Equal(got.Data, c.want.Data) {
				t.Errorf("data % x, want % x", got.Data, c.want.Data)
			}
			if !sameExit(got, c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func sameExit(a, b hcl.Exit) bool {
	return a.Kind == b.Kind && a.Write == b.Write && a.Size == b.Size && a.Port == b.Port &&
		a.MSR == b.MSR && a.GPA == b.GPA && a.RIP == b.RIP && a.Value == b.Value
}

// TestFromHCL: the other direction, with the encodings of the SDM.
func TestFromHCL(t *testing.T) {
	for _, c := range []struct {
		what string
		exit hcl.Exit
		want Exit
		ok   bool
	}{
		{"OUT", hcl.Exit{Kind: hcl.ExitPIO, Write: true, Size: 1, Port: 0x3f8, Data: []byte{1}}, Exit{Reason: 30, Qualification: 0x3f8 << 16, Length: 2}, true},
		{"IN of 4 bytes", hcl.Exit{Kind: hcl.ExitPIO, Size: 4, Port: 0xcfc, Data: make([]byte, 4)}, Exit{Reason: 30, Qualification: 0xcfc<<16 | 3 | 1<<3, Length: 2}, true},
		{"REP INSW", hcl.Exit{Kind: hcl.ExitPIO, Size: 2, Port: 0x1f0, Data: make([]byte, 512)}, Exit{Reason: 30, Qualification: 0x1f0<<16 | 1 | 7<<3, Length: 2}, true},
		{"RDMSR", hcl.Exit{Kind: hcl.ExitMSRRead, MSR: 0x10}, Exit{Reason: 31, Length: 2}, true},
		{"WRMSR", hcl.Exit{Kind: hcl.ExitMSRWrite, MSR: 0x10}, Exit{Reason: 32, Length: 2}, true},
		{"HLT", hcl.Exit{Kind: hcl.ExitHalt}, Exit{Reason: 12, Length: 2}, true},
		{"kick", hcl.Exit{Kind: hcl.ExitKick}, Exit{Status: tdx.STATUS_L2_EXIT_PENDING_INTERRUPT, Reason: 1}, true},
		{"window", hcl.Exit{Kind: hcl.ExitInterruptWindow}, Exit{Reason: 7}, true},
		{"TPR", hcl.Exit{Kind: hcl.ExitTPR}, Exit{Reason: 43}, true},
		{"shutdown", hcl.Exit{Kind: hcl.ExitShutdown}, Exit{Reason: 2}, true},
		{"failed", hcl.Exit{Kind: hcl.ExitEmulationFailed}, Exit{Reason: 1<<31 | 33}, true},
		{"memory fault", hcl.Exit{Kind: hcl.ExitMemoryFault, GPA: 0xfee00300, Value: 0x182}, Exit{Reason: 48, Qualification: 0x182, GPA: 0xfee00300}, true},
		{"MMIO that has been done", hcl.Exit{Kind: hcl.ExitMMIO}, Exit{}, false},
		{"no such kind", hcl.Exit{Kind: hcl.ExitKinds}, Exit{}, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			if got, ok := FromHCL(&c.exit, 2); ok != c.ok || got != c.want {
				t.Errorf("%v %+v, want %v %+v", ok, got, c.ok, c.want)
			}
		})
	}
}

// TestEveryKind: each exit but ExitMMIO and ExitDebug goes down and comes back as it was.
func TestEveryKind(t *testing.T) {
	for kind := range hcl.ExitKinds {
		e := hcl.Exit{Kind: kind, Size: 1, Write: true, Data: []byte{1}, Value: tdx.EPT_WRITE}
		x, ok := FromHCL(&e, 1)
		if !ok {
			if kind != hcl.ExitMMIO && kind != hcl.ExitDebug {
				t.Errorf("%v has no exit of VMX", kind)
			}
			continue
		}
		var buffer [4]byte
		if got, ok := x.HCLExit(&hcl.Registers{}, &buffer); !ok || got.Kind != kind {
			t.Errorf("%v came back as %v", kind, got.Kind)
		}
	}
}
