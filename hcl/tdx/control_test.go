package tdx

import (
	"encoding/binary"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/emutee/tdxmodule"
	"keel/hcl/tdx/l2"
)

// TestControlRegisters: MOV to CR0 and CR4, and LMSW, that change a bit of Keel's (SDM
// vol. 2, "MOV—Move to/from Control Registers", "LMSW"; vol. 3, table "Exit Qualification
// for Control-Register Accesses"). RBX is the operand.
func TestControlRegisters(t *testing.T) {
	const (
		at, behind = 0x1000, 0x1002
		movCR0     = 3 << 8
		movCR4     = 4 | 3<<8
		lmsw       = 3 << 4
	)
	pages := func(s *hcl.SpecialRegisters) { s.CR0 = protected }
	paeOff := func(s *hcl.SpecialRegisters) { s.CR0, s.CR4, s.EFER = 0x11, 1<<5, 0x100 }
	pae32 := func(s *hcl.SpecialRegisters) { s.CR0, s.CR4, s.CR3 = 0x60000011, 1<<5, 0x3020 }
	for _, c := range []struct {
		what       string
		start      func(s *hcl.SpecialRegisters)
		info, rbx  uint64
		refused    bool
		cr0, cr4   uint64 // as the guest reads them
		efer       uint64
		invalidate uint64
	}{
		{"CR0.CD and NW", pages, movCR0, protected | 3<<29, false, protected | 3<<29, 0, 0x800, 2},
		{"CR0.CD", pages, movCR0, protected | 1<<30, false, protected | 1<<30, 0, 0x800, 2},
		{"CR0, reserved bits are ignored", pages, movCR0, protected | 1<<30 | 0x1ffaffc0, false, protected | 1<<30, 0, 0x800, 2},
		{"CR0.ET stays", pages, movCR0, 0x80000001, false, protected, 0, 0x800, 2},
		{"CR0.NW alone", pages, movCR0, protected | 1<<29, true, protected, 0, 0x800, 0},
		{"CR0.PG alone", pages, movCR0, 1 << 31, true, protected, 0, 0x800, 0},
		{"CR0, upper half in 64-bit mode", long, movCR0, 1<<32 | 0x80050033, true, 0x80050033, 1 << 5, 0xd01, 0},
		{"into long mode", paeOff, movCR0, protected | 1<<5, false, protected | 1<<5, 1 << 5, 0xd00, 2},
		{"into long mode without PAE", func(s *hcl.SpecialRegisters) { paeOff(s); s.CR4 = 0 }, movCR0, protected | 1<<5, true, 0x11, 0, 0x900, 0},
		{"into long mode, code of 64 bits", func(s *hcl.SpecialRegisters) { paeOff(s); s.CS.Attributes = 0xa09b }, movCR0, protected | 1<<5, true, 0x11, 1 << 5, 0x900, 0},
		{"out of long mode", func(s *hcl.SpecialRegisters) { long(s); s.CS.Attributes = 0xc09b }, movCR0, 0x11, false, 0x11, 1 << 5, 0x901, 2},
		{"out of long mode, code of 64 bits", long, movCR0, 0x11, true, 0x80050033, 1 << 5, 0xd01, 0},
		{"LMSW", pages, lmsw | 0xb<<16, 0, false, protected | 0xa, 0, 0x800, 2},
		{"LMSW cannot clear PE", pages, lmsw, 0, false, protected, 0, 0x800, 2},
		{"paging with PAE, good pointers", pae32, movCR0, protected, false, protected, 1 << 5, 0x800, 2},
		{"paging with PAE, bad pointers", func(s *hcl.SpecialRegisters) { pae32(s); s.CR3 = 0x3040 }, movCR0, protected, true, 0x60000011, 1 << 5, 0x800, 2},
		{"paging with PAE, pointers nowhere", func(s *hcl.SpecialRegisters) { pae32(s); s.CR3 = 0xfffff000 }, movCR0, protected, true, 0x60000011, 1 << 5, 0x800, 2},

		{"CR4.MCE", pages, movCR4, 1 << 6, false, protected, 1 << 6, 0x800, 2},
		{"CR4.PAE and more", pages, movCR4, 0x6b0, false, protected, 0x6b0, 0x800, 2},
		{"CR4.PKE", pages, movCR4, 1 << 22, false, protected, 1 << 22, 0x800, 2},
		{"CR4.OSXSAVE", pages, movCR4, 1 << 18, false, protected, 1 << 18, 0x800, 2},
		{"CR4.VMXE", pages, movCR4, 1 << 13, true, protected, 0, 0x800, 0},
		{"CR4.SMXE", pages, movCR4, 1 << 14, true, protected, 0, 0x800, 0},
		{"CR4.CET, which the TD lacks", pages, movCR4, 1 << 23, true, protected, 0, 0x800, 0},
		{"CR4, reserved", pages, movCR4, 1 << 27, true, protected, 0, 0x800, 0},
		{"CR4, upper half in 64-bit mode", long, movCR4, 1<<40 | 1<<5, true, 0x80050033, 1 << 5, 0xd01, 0},
		{"CR4 without PAE in long mode", long, movCR4, 1 << 6, true, 0x80050033, 1 << 5, 0xd01, 0},
		{"CR4.LA57 in long mode", long, movCR4, 1<<5 | 1<<12, true, 0x80050033, 1 << 5, 0xd01, 0},
		{"CR4.PCIDE in long mode", long, movCR4, 1<<5 | 1<<17, false, 0x80050033, 1<<5 | 1<<17, 0xd01, 2},
		{"CR4.PCIDE outside", pages, movCR4, 1 << 17, true, protected, 0, 0x800, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			f, p, vp := newVP(t, table...)
			if err := p.Accept(0, 4<<20); err != nil {
				t.Fatal(err)
			}
			table, err := p.ram.Bytes(0x3000, x86.PageSize)
			if err != nil {
				t.Fatal(err)
			}
			binary.LittleEndian.PutUint64(table[0x20:], 0x4001)
			binary.LittleEndian.PutUint64(table[0x40:], 0x4003) // a reserved bit
			special(t, vp, c.start)
			vp.state.Registers.RIP, vp.state.Registers.RBX = at, c.rbx
			vp.invalidate = tdx.INVALIDATE_NONE
			rip, inject := uint64(behind), uint64(0)
			if c.refused {
				rip, inject = at, injectGP
			}
			seen := false
			f.script = []step{leave(tdx.EXIT_CR_ACCESS, c.info), func(g *entered) l2.Exit {
				seen = true
				s := g.Special(VM)
				if s.CR0 != c.cr0 || s.CR4 != c.cr4 || s.EFER != c.efer {
					t.Errorf("the guest has CR0 %#x, CR4 %#x, EFER %#x, want %#x, %#x, %#x", s.CR0, s.CR4, s.EFER, c.cr0, c.cr4, c.efer)
				}
				if g.Registers.RIP != rip || g.inject() != inject || g.rcx&3 != c.invalidate {
					t.Errorf("RIP %#x, event %#x, flags %d, want %#x, %#x, %d", g.Registers.RIP, g.inject(), g.rcx&3, rip, inject, c.invalidate)
				}
				if c.what == "paging with PAE, good pointers" && g.get(tdx.VMCS_GUEST_PDPTE_0) != 0x4001 {
					t.Errorf("pointer %#x", g.get(tdx.VMCS_GUEST_PDPTE_0))
				}
				return kick(g)
			}}
			if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitKick || !seen {
				t.Fatalf("%+v, %v, entered again: %v", e, err, seen)
			}
			if got := p.Stats().RefusedCR; got != 0 != c.refused {
				t.Errorf("%d refused", got)
			}
		})
	}
}

// TestOSXSAVE: a guest without XSAVE must not switch it on.
func TestOSXSAVE(t *testing.T) {
	f, p, vp := newVP(t)
	special(t, vp, func(s *hcl.SpecialRegisters) { s.CR0 = protected })
	vp.state.Registers.RAX = 1 << 18
	f.script = []step{leave(tdx.EXIT_CR_ACCESS, 4), kick}
	if _, err := vp.Run(); err != nil || p.Stats().RefusedCR != 1 {
		t.Errorf("%v, %+v", err, p.Stats())
	}
}

// TestSpecialRegisters: what Keel writes the guest has, and what the guest has Keel reads.
func TestSpecialRegisters(t *testing.T) {
	f, _, vp := newVP(t)
	var want hcl.SpecialRegisters
	special(t, vp, func(s *hcl.SpecialRegisters) {
		long(s)
		s.CR0 |= 3 << 29
		s.CR2, s.CR3, s.CR4 = 0x1234, 0x5000, s.CR4|1<<6|1<<7
		s.FS.Base, s.GS.Base = 0x7fff00000000, 0xffff888000000000
		s.GDT, s.IDT = hcl.Table{Base: 0x6000, Limit: 0x7f}, hcl.Table{Base: 0x7000, Limit: 0xfff}
		s.LDT = hcl.Segment{Attributes: hcl.SegUnusable}
		want = *s
	})
	f.script = []step{func(g *entered) l2.Exit {
		got := g.Special(VM)
		got.CR2 = g.context.CR2
		if got != want {
			t.Errorf("the guest has %+v, want %+v", got, want)
		}
		if g.rcx&3 != tdx.INVALIDATE_INVVPID {
			t.Errorf("flags %d", g.rcx&3)
		}
		want.CR2, want.CR3, want.SS.Selector, want.GDT.Limit = 0x4321, 0x8000, 0x18, 0x6f
		g.context.CR2 = want.CR2
		g.set(tdx.VMCS_GUEST_CR3, want.CR3, ^uint64(0))
		g.set(tdx.VMCS_GUEST_SS_SELECTOR, 0x18, 0xffff)
		g.set(tdx.VMCS_GUEST_GDTR_LIMIT, 0x6f, 0xffffffff)
		return kick(g)
	}}
	if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitKick {
		t.Fatal(e, err)
	}
	if got, err := vp.SpecialRegisters(); err != nil || got != want {
		t.Errorf("Keel reads %+v, %v, want %+v", got, err, want)
	}
	f.script = []step{func(g *entered) l2.Exit {
		if g.rcx&3 != tdx.INVALIDATE_NONE {
			t.Errorf("flags %d without a change", g.rcx&3)
		}
		return kick(g)
	}}
	if _, err := vp.Run(); err != nil {
		t.Fatal(err)
	}
}

// TestLMA: EFER.LMA is what LME and CR0.PG make of it, whatever the caller says.
func TestLMA(t *testing.T) {
	f, _, vp := newVP(t)
	for _, c := range []struct{ cr0, efer, want uint64 }{
		{0x80000031, 0x101, 0xd01},
		{0x31, 0x501, 0x901},
		{0x80000031, 0x401, 0x801},
	} {
		special(t, vp, func(s *hcl.SpecialRegisters) { long(s); s.CS.Attributes = 0xc09b; s.CR0, s.EFER = c.cr0, c.efer })
		f.script = []step{func(g *entered) l2.Exit {
			if got, ia32e := g.get(tdx.VMCS_GUEST_EFER), g.get(tdx.VMCS_ENTRY_CONTROLS)&(1<<9) != 0; got != c.want || ia32e != (c.want&0x400 != 0) {
				t.Errorf("CR0 %#x, EFER %#x: the guest has %#x, IA-32e mode %v", c.cr0, c.efer, got, ia32e)
			}
			return kick(g)
		}}
		if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitKick {
			t.Errorf("CR0 %#x, EFER %#x: %+v, %v", c.cr0, c.efer, e, err)
		}
	}
}

// TestMSRs: where each register is, and that the guest reaches what is its own alone.
func TestMSRs(t *testing.T) {
	f, _, vp := newVP(t)
	for i, index := range passed {
		if err := vp.SetMSR(index, uint64(i)+0x100); err != nil {
			t.Error(err)
		}
	}
	if err := vp.SetMSR(x86.IA32_PAT, 0x0606060606060606); err != nil {
		t.Error(err)
	}
	if err := vp.SetMSR(x86.IA32_TSC, 7); err != nil || f.msrs[x86.IA32_TSC] != 7 {
		t.Error(err, f.msrs)
	}
	f.script = []step{func(g *entered) l2.Exit {
		want := l2.Context{
			DR6: resetDR6, XCR0: 1, STAR: 0x104, LSTAR: 0x105, CSTAR: 0x106, SFMASK: 0x107, KernelGSBase: 0x10a, TSCAux: 0x10b,
		}
		if *g.context != want {
			t.Errorf("%+v, want %+v", *g.context, want)
		}
		for code, want := range map[uint32]uint64{
			tdx.VMCS_SYSENTER_CS: 0x100, tdx.VMCS_SYSENTER_ESP: 0x101, tdx.VMCS_SYSENTER_EIP: 0x102, tdx.VMCS_GUEST_PAT: 0x0606060606060606,
			0x680e: 0x108, 0x6810: 0x109, // bases of FS and GS
		} {
			if got := g.get(code); got != want {
				t.Errorf("field %#x is %#x, want %#x", code, got, want)
			}
		}
		return kick(g)
	}}
	if _, err := vp.Run(); err != nil {
		t.Fatal(err)
	}
	free := map[uint32]bool{}
	for _, index := range passed {
		free[index] = true
	}
	for index := range uint32(0x4000) {
		if index >= 0x2000 {
			index += 0xC0000000 - 0x2000
		}
		if got := f.vp.InterceptsMSR(VM, index, true); got == free[index] {
			t.Errorf("WRMSR %#x exits: %v", index, got)
		}
		if got := f.vp.InterceptsMSR(VM, index, false); got == (free[index] || index == x86.IA32_TSC) {
			t.Errorf("RDMSR %#x exits: %v", index, got)
		}
	}
}

// TestOpen: a TD that cannot have the guest, and one with wide addresses.
func TestOpen(t *testing.T) {
	if _, err := Open(nil); err == nil {
		t.Error("without a machine")
	}
	if _, err := Open(newFake(t, func(c *tdxmodule.Config) { c.VMs = 0 })); err == nil {
		t.Error("without an L2 VM")
	}
	p, err := Open(newFake(t, func(c *tdxmodule.Config) { c.Wide = true }))
	if err != nil || p.shared != 1<<51 {
		t.Errorf("%+v, %v", p, err)
	}
	f, _, vp := newVP(t)
	if _, err := vp.p.NewVP(hcl.VPConfig{}); err == nil {
		t.Error("two VPs of one number")
	}
	if f.resets != 1 {
		t.Errorf("%d resets", f.resets)
	}
}
