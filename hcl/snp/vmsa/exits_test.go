package vmsa

import (
	"bytes"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/snp"
)

// TestExits: what exits of SVM (APM vol. 2 appendix C, §15.10.2, §15.11,
// §15.25.6) mean above, and which a backend keeps to itself.
func TestExits(t *testing.T) {
	for _, c := range []struct {
		what string
		exit ExitInfo
		want hcl.Exit
		ok   bool
	}{
		{
			"OUT 3f8h, AL",
			ExitInfo{Code: 0x7b, Info1: 0x3f8<<16 | 1<<9 | 1<<4, Info2: 0x1002},
			hcl.Exit{Kind: hcl.ExitPIO, Write: true, Size: 1, Port: 0x3f8, Data: []byte{0x88}},
			true,
		},
		{
			"OUT DX, EAX",
			ExitInfo{Code: 0x7b, Info1: 0xcf8<<16 | 1<<6},
			hcl.Exit{Kind: hcl.ExitPIO, Write: true, Size: 4, Port: 0xcf8, Data: []byte{0x88, 0x77, 0x66, 0x55}},
			true,
		},
		{
			"IN AX, DX",
			ExitInfo{Code: 0x7b, Info1: 0x1f0<<16 | 1<<5 | 1},
			hcl.Exit{Kind: hcl.ExitPIO, Size: 2, Port: 0x1f0, Data: []byte{0, 0}},
			true,
		},
		{"REP OUTSB", ExitInfo{Code: 0x7b, Info1: 0x3f8<<16 | 1<<4 | 3<<2}, hcl.Exit{Kind: hcl.ExitPIO, Write: true, Size: 1, Port: 0x3f8}, false},
		{"no size", ExitInfo{Code: 0x7b, Info1: 0x3f8 << 16}, hcl.Exit{Kind: hcl.ExitPIO, Write: true, Port: 0x3f8}, false},
		{"two sizes", ExitInfo{Code: 0x7b, Info1: 0x3f8<<16 | 3<<4}, hcl.Exit{Kind: hcl.ExitPIO, Write: true, Size: 3, Port: 0x3f8}, false},
		{"RDMSR", ExitInfo{Code: 0x7c}, hcl.Exit{Kind: hcl.ExitMSRRead, MSR: 0xc0000080}, true},
		{"WRMSR", ExitInfo{Code: 0x7c, Info1: 1}, hcl.Exit{Kind: hcl.ExitMSRWrite, MSR: 0xc0000080, Value: 0xddccbbaa55667788}, true},
		{"HLT", ExitInfo{Code: 0x78}, hcl.Exit{Kind: hcl.ExitHalt}, true},
		{"idle HLT", ExitInfo{Code: 0xa6}, hcl.Exit{Kind: hcl.ExitHalt}, true},
		{"INTR", ExitInfo{Code: 0x60}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"NMI", ExitInfo{Code: 0x61}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"SMI", ExitInfo{Code: 0x62}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"INIT", ExitInfo{Code: 0x63}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"PAUSE", ExitInfo{Code: 0x77}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"VINTR", ExitInfo{Code: 0x64}, hcl.Exit{Kind: hcl.ExitInterruptWindow}, true},
		{"write of CR8", ExitInfo{Code: 0x18}, hcl.Exit{Kind: hcl.ExitTPR}, true},
		{"CR8 write trap", ExitInfo{Code: 0x98}, hcl.Exit{Kind: hcl.ExitTPR}, true},
		{"SHUTDOWN", ExitInfo{Code: 0x7f}, hcl.Exit{Kind: hcl.ExitShutdown}, true},
		{
			"NPF, VMPL",
			ExitInfo{Code: 0x400, Info1: 0x1580000007, Info2: 0x12345678},
			hcl.Exit{Kind: hcl.ExitMemoryFault, Write: true, GPA: 0x12345678, Value: 0x1580000007},
			true,
		},
		{"INVALID", ExitInfo{Code: ^uint64(0)}, hcl.Exit{Kind: hcl.ExitEmulationFailed, Value: ^uint64(0)}, true},
		{"BUSY", ExitInfo{Code: ^uint64(1)}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"IDLE_REQUIRED", ExitInfo{Code: ^uint64(2)}, hcl.Exit{Kind: hcl.ExitKick}, true},
		{"INVALID_PMC", ExitInfo{Code: ^uint64(3)}, hcl.Exit{Kind: hcl.ExitEmulationFailed, Value: ^uint64(3)}, true},

		{"read of CR0", ExitInfo{Code: 0x00}, hcl.Exit{}, false},
		{"write of CR4", ExitInfo{Code: 0x14}, hcl.Exit{}, false},
		{"read of DR7", ExitInfo{Code: 0x27}, hcl.Exit{}, false},
		{"#DB", ExitInfo{Code: 0x41}, hcl.Exit{}, false},
		{"#VC", ExitInfo{Code: 0x5d}, hcl.Exit{}, false},
		{"CPUID", ExitInfo{Code: 0x72}, hcl.Exit{}, false},
		{"WBINVD", ExitInfo{Code: 0x89}, hcl.Exit{}, false},
		{"XSETBV", ExitInfo{Code: 0x8d}, hcl.Exit{}, false},
		{"EFER write trap", ExitInfo{Code: 0x8f}, hcl.Exit{}, false},
		{"VMMCALL", ExitInfo{Code: 0x81}, hcl.Exit{}, false},
		{"VMGEXIT", ExitInfo{Code: 0x403}, hcl.Exit{}, false},
		{"page not validated", ExitInfo{Code: 0x404}, hcl.Exit{}, false},
		{"unknown", ExitInfo{Code: 0x7777}, hcl.Exit{}, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := runnable()
			s.Registers.RAX, s.Registers.RCX, s.Registers.RDX = 0x1122334455667788, 0xffffffffc0000080, 0xaabbccddddccbbaa
			s.Registers.RIP = 0x1000
			s.Exit = c.exit
			c.want.RIP = 0x1000
			var buffer [4]byte
			got, ok := s.HCLExit(&buffer)
			if ok != c.ok {
				t.Fatalf("above: %v, want %v", ok, c.ok)
			}
			if !bytes.Equal(got.Data, c.want.Data) {
				t.Errorf("data % x, want % x", got.Data, c.want.Data)
			}
			got.Data, c.want.Data = nil, nil
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

// TestSetExit: the other direction, with the encodings of APM vol. 2.
func TestSetExit(t *testing.T) {
	for _, c := range []struct {
		what   string
		exit   hcl.Exit
		change func(*SaveArea)
		want   ExitInfo
		ok     bool
	}{
		{
			"OUT in 64-bit mode",
			hcl.Exit{Kind: hcl.ExitPIO, Write: true, Size: 1, Port: 0x3f8, Data: []byte{1}},
			nil,
			ExitInfo{Code: 0x7b, Info1: 0x3f8<<16 | 3<<10 | 1<<9 | 1<<4, Info2: 0x2002, NRIP: 0x2002},
			true,
		},
		{
			"REP INSW in 32-bit mode",
			hcl.Exit{Kind: hcl.ExitPIO, Size: 2, Port: 0x1f0, Data: make([]byte, 512)},
			func(s *SaveArea) { s.Special.CS.Attributes = 0xc09b },
			ExitInfo{Code: 0x7b, Info1: 0x1f0<<16 | 3<<10 | 1<<8 | 1<<5 | 3<<2 | 1, Info2: 0x2002, NRIP: 0x2002},
			true,
		},
		{
			"IN in real mode",
			hcl.Exit{Kind: hcl.ExitPIO, Size: 4, Port: 0xcfc, Data: make([]byte, 4)},
			func(s *SaveArea) { s.Special.CR0, s.Special.CS.Attributes = 0x10, 0x9b },
			ExitInfo{Code: 0x7b, Info1: 0xcfc<<16 | 3<<10 | 1<<7 | 1<<6 | 1, Info2: 0x2002, NRIP: 0x2002},
			true,
		},
		{"RDMSR", hcl.Exit{Kind: hcl.ExitMSRRead, MSR: 0x10}, nil, ExitInfo{Code: 0x7c, NRIP: 0x2002}, true},
		{"WRMSR", hcl.Exit{Kind: hcl.ExitMSRWrite, MSR: 0x10, Value: 1}, nil, ExitInfo{Code: 0x7c, Info1: 1, NRIP: 0x2002}, true},
		{"HLT", hcl.Exit{Kind: hcl.ExitHalt}, nil, ExitInfo{Code: 0x78, NRIP: 0x2002}, true},
		{"kick", hcl.Exit{Kind: hcl.ExitKick}, nil, ExitInfo{Code: 0x60, NRIP: 0x2002}, true},
		{"window", hcl.Exit{Kind: hcl.ExitInterruptWindow}, nil, ExitInfo{Code: 0x64, NRIP: 0x2002}, true},
		{"TPR", hcl.Exit{Kind: hcl.ExitTPR}, func(s *SaveArea) { s.VINTR = 5 }, ExitInfo{Code: 0x98, Info1: 5, NRIP: 0x2002}, true},
		{"shutdown", hcl.Exit{Kind: hcl.ExitShutdown}, nil, ExitInfo{Code: 0x7f, NRIP: 0x2002}, true},
		{"failed", hcl.Exit{Kind: hcl.ExitEmulationFailed}, nil, ExitInfo{Code: ^uint64(0), NRIP: 0x2002}, true},
		{
			"MMIO as a raw fault",
			hcl.Exit{Kind: hcl.ExitMemoryFault, GPA: 0xfee00300, Value: MMIOFault(true)},
			nil,
			ExitInfo{Code: 0x400, Info1: 1<<32 | 0xf, Info2: 0xfee00300, NRIP: 0x2002},
			true,
		},
		{"MMIO that has been done", hcl.Exit{Kind: hcl.ExitMMIO, GPA: 0xfee00300}, nil, ExitInfo{}, false},
		{"no such kind", hcl.Exit{Kind: hcl.ExitKinds}, nil, ExitInfo{}, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := runnable()
			if c.change != nil {
				c.change(&s)
			}
			if ok := s.SetExit(&c.exit, 0x2002); ok != c.ok || s.Exit != c.want {
				t.Errorf("%v %+v, want %v %+v", ok, s.Exit, c.ok, c.want)
			}
		})
	}
}

// TestEveryKind: each exit but ExitMMIO and ExitDebug goes down and comes back as it was.
func TestEveryKind(t *testing.T) {
	for kind := range hcl.ExitKinds {
		s := runnable()
		e := hcl.Exit{Kind: kind, Size: 1, Write: true, Data: []byte{1}, Value: snp.NPF_W}
		if !s.SetExit(&e, 0) {
			if kind != hcl.ExitMMIO && kind != hcl.ExitDebug {
				t.Errorf("%v has no exit of SVM", kind)
			}
			continue
		}
		var buffer [4]byte
		if got, ok := s.HCLExit(&buffer); !ok || got.Kind != kind {
			t.Errorf("%v came back as %v", kind, got.Kind)
		}
	}
}
