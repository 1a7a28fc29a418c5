package tdx

import (
	"bytes"
	"errors"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/tdx/l2"
)

// Events as VMX packs them (SDM vol. 3, "Format of the VM-Entry Interruption-Information
// Field").
const (
	injectGP = 1<<31 | 1<<11 | 3<<8 | 13
	injectUD = 1<<31 | 3<<8 | 6
)

const protected = 0x80000011 // CR0 with paging and protection

var table = []hcl.CPUIDEntry{
	{Leaf: 1, EAX: 0x830f10, ECX: 1 << 26, EDX: 7},
	{Leaf: 7, Indexed: true, ECX: 1<<4 | 1<<3},
	{Leaf: 0xd, Indexed: true, EAX: 7, EBX: 1, ECX: 0x340},
	{Leaf: 0xd, Indexed: true, Subleaf: 1, EAX: 0xf, EBX: 1, ECX: 1 << 11},
	{Leaf: 0xd, Indexed: true, Subleaf: 2, EAX: 0x100, EBX: 0x240},
	{Leaf: 0xd, Indexed: true, Subleaf: 11, EAX: 0x10, ECX: 1<<1 | 1},
}

// TestSilentExits: what Run handles itself, seen by the state of the next entry. Each
// instruction is at 1000h and of two bytes.
func TestSilentExits(t *testing.T) {
	const at, behind = 0x1000, 0x1002
	for _, c := range []struct {
		what   string
		reason uint32
		before func(g *entered)
		rip    uint64
		inject uint64
		check  func(g *entered) bool
		stats  Stats
	}{
		{what: "CPUID", reason: 10, before: regs(1, 0, 0), rip: behind, check: func(g *entered) bool {
			r := g.Registers
			return r.RAX == 0x830f10 && r.RCX == 1<<26 && r.RDX == 7
		}},
		{what: "CPUID, OSXSAVE", reason: 10, before: both(regs(1, 0, 0), cr4(1<<18)), rip: behind, check: func(g *entered) bool {
			return g.Registers.RCX == 1<<26|1<<27
		}},
		{what: "CPUID, OSPKE off", reason: 10, before: regs(7, 0, 0), rip: behind, check: func(g *entered) bool { return g.Registers.RCX == 1<<3 }},
		{what: "CPUID, OSPKE on", reason: 10, before: both(regs(7, 0, 0), cr4(1<<22)), rip: behind, check: func(g *entered) bool {
			return g.Registers.RCX == 1<<4|1<<3
		}},
		{what: "CPUID, area for x87", reason: 10, before: regs(0xd, 0, 0), rip: behind, check: rbx(576)},
		{what: "CPUID, area with AVX", reason: 10, before: both(regs(0xd, 0, 0), xcr0(7, 0)), rip: behind, check: rbx(0x340)},
		{what: "CPUID, compacted", reason: 10, before: both(regs(0xd, 1, 0), xcr0(7, 1<<11)), rip: behind, check: rbx(0x350)},
		{what: "CPUID, no such leaf", reason: 10, before: regs(0x8fffffff, 1<<32|5, 1), rip: behind, check: func(g *entered) bool {
			r := g.Registers
			return r.RAX|r.RBX|r.RCX|r.RDX == 0
		}},
		{what: "CPUID behind STI", reason: 10, before: func(g *entered) {
			g.Registers.RFLAGS |= 1 << 9
			g.set(tdx.VMCS_INTERRUPTIBILITY, 1, 3)
		}, rip: behind, check: func(g *entered) bool { return g.get(tdx.VMCS_INTERRUPTIBILITY) == 0 }},
		{what: "RDTSC", reason: 16, rip: behind, check: func(g *entered) bool {
			return g.Registers.RAX == 0x55667788 && g.Registers.RDX == 0x11223344
		}},
		{what: "RDTSCP", reason: 51, before: func(g *entered) { g.context.TSCAux = 9 }, rip: behind, check: func(g *entered) bool { return g.Registers.RCX == 9 }},
		{what: "XSETBV", reason: 55, before: both(regs(7, 0, 0), cr4(1<<18)), rip: behind, check: func(g *entered) bool { return g.context.XCR0 == 7 }},
		{what: "XSETBV, AVX without SSE", reason: 55, before: both(regs(5, 0, 0), cr4(1<<18)), rip: at, inject: injectGP, stats: Stats{RefusedXCR0: 1}},
		{what: "XSETBV, without x87", reason: 55, before: both(regs(6, 0, 0), cr4(1<<18)), rip: at, inject: injectGP, stats: Stats{RefusedXCR0: 1}},
		{what: "XSETBV, unknown bit", reason: 55, before: both(regs(0x207, 0, 0), cr4(1<<18)), rip: at, inject: injectGP, stats: Stats{RefusedXCR0: 1}},
		{what: "XSETBV of another register", reason: 55, before: both(regs(7, 1, 0), cr4(1<<18)), rip: at, inject: injectGP, stats: Stats{RefusedXCR0: 1}},
		{what: "XSETBV, OSXSAVE off", reason: 55, before: regs(7, 0, 0), rip: at, inject: injectGP, stats: Stats{RefusedXCR0: 1}},
		{what: "WBINVD", reason: 54, rip: behind},
		{what: "INVD", reason: 13, rip: behind},
		{what: "MWAIT", reason: 36, rip: behind},
		{what: "VMCALL", reason: 18, rip: at, inject: injectUD, stats: Stats{RefusedInstructions: 1}},
		{what: "TDCALL", reason: 77, rip: at, inject: injectUD, stats: Stats{RefusedInstructions: 1}},
		{what: "VMXON", reason: 27, rip: at, inject: injectUD, stats: Stats{RefusedInstructions: 1}},
		{what: "RDPMC", reason: 15, rip: at, inject: injectGP, stats: Stats{RefusedInstructions: 1}},
		{what: "NMI window", reason: 8, rip: at},

		{what: "RDMSR EFER", reason: 31, before: regs(0, 0xc0000080, 9), rip: behind, check: func(g *entered) bool {
			return g.Registers.RAX == 0 && g.Registers.RDX == 0 // NXE is always set, and not seen
		}},
		{what: "WRMSR EFER", reason: 32, before: regs(0x801, 0xc0000080, 0), rip: behind, check: func(g *entered) bool {
			return g.get(tdx.VMCS_GUEST_EFER) == 0x801
		}},
		{what: "WRMSR EFER, LMA is the processor's", reason: 32, before: regs(0xc00, 0xc0000080, 0), rip: behind, check: func(g *entered) bool {
			return g.get(tdx.VMCS_GUEST_EFER) == 0x800 && g.get(tdx.VMCS_ENTRY_CONTROLS)&(1<<9) == 0
		}},
		{what: "WRMSR EFER, SVME", reason: 32, before: regs(0x1000, 0xc0000080, 0), rip: at, inject: injectGP, stats: Stats{RefusedEFER: 1}},
		{what: "WRMSR EFER, LME while paging", reason: 32, before: regs(0x100, 0xc0000080, 0), rip: at, inject: injectGP, stats: Stats{RefusedEFER: 1}},
		{what: "WRMSR XSS", reason: 32, before: regs(1<<11, 0xda0, 0), rip: behind, check: func(g *entered) bool { return g.context.XSS == 1<<11 }},
		{what: "RDMSR XSS", reason: 31, before: both(regs(0, 0xda0, 0), xcr0(1, 1<<11)), rip: behind, check: func(g *entered) bool { return g.Registers.RAX == 1<<11 }},
		{what: "WRMSR XSS, unknown bit", reason: 32, before: regs(1<<8, 0xda0, 0), rip: at, inject: injectGP, stats: Stats{RefusedXSS: 1}},
	} {
		t.Run(c.what, func(t *testing.T) {
			f, p, vp := newVP(t, table...)
			special(t, vp, func(s *hcl.SpecialRegisters) { s.CR0 = protected })
			vp.state.Registers.RIP = at
			seen := false
			f.script = []step{
				func(g *entered) l2.Exit {
					if c.before != nil {
						c.before(g)
					}
					return leave(c.reason, 0)(g)
				},
				func(g *entered) l2.Exit {
					seen = true
					if g.Registers.RIP != c.rip || g.inject() != c.inject {
						t.Errorf("RIP %#x, event %#x, want %#x, %#x", g.Registers.RIP, g.inject(), c.rip, c.inject)
					}
					if c.check != nil && !c.check(g) {
						t.Errorf("entered with %+v, %+v", g.EnterState, g.context)
					}
					return kick(g)
				},
			}
			if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitKick || !seen {
				t.Fatalf("%+v, %v, entered again: %v", e, err, seen)
			}
			if got := p.Stats(); got != c.stats {
				t.Errorf("counted %+v, want %+v", got, c.stats)
			}
		})
	}
}

func regs(rax, rcx, rdx uint64) func(g *entered) {
	return func(g *entered) { g.Registers.RAX, g.Registers.RCX, g.Registers.RDX = rax, rcx, rdx }
}

func cr4(v uint64) func(g *entered) {
	return func(g *entered) { g.set(tdx.VMCS_GUEST_CR4, v, v) }
}

func xcr0(v, xss uint64) func(g *entered) {
	return func(g *entered) { g.context.XCR0, g.context.XSS = v, xss }
}

func rbx(v uint64) func(g *entered) bool {
	return func(g *entered) bool { return g.Registers.RBX == v }
}

func both(a, b func(g *entered)) func(g *entered) { return func(g *entered) { a(g); b(g) } }

// TestExits: what the caller sees, what he answers, and what the guest goes on with.
func TestExits(t *testing.T) {
	const at, behind = 0x1000, 0x1002
	const rax = 0x1122334455667788
	failed := func(reason uint64) hcl.Exit {
		return hcl.Exit{Kind: hcl.ExitEmulationFailed, Value: reason, RIP: at}
	}
	for _, c := range []struct {
		what     string
		reason   uint32
		info     uint64
		want     hcl.Exit
		answer   func(vp *VP, e *hcl.Exit)
		rip, rax uint64
		rdx      uint64
		inject   uint64
	}{
		{what: "OUT", reason: 30, info: 0x3f8 << 16, want: hcl.Exit{Kind: hcl.ExitPIO, Write: true, Size: 1, Port: 0x3f8, Data: []byte{0x88}, RIP: at}, rip: behind, rax: rax, rdx: 5},
		{what: "IN AL", reason: 30, info: 0x3f8<<16 | 1<<3, want: hcl.Exit{Kind: hcl.ExitPIO, Size: 1, Port: 0x3f8, Data: []byte{0}, RIP: at}, answer: fill4, rip: behind, rax: 0x11223344556677aa, rdx: 5},
		{what: "IN AX", reason: 30, info: 0x3f8<<16 | 1<<3 | 1, want: hcl.Exit{Kind: hcl.ExitPIO, Size: 2, Port: 0x3f8, Data: []byte{0, 0}, RIP: at}, answer: fill4, rip: behind, rax: 0x112233445566bbaa, rdx: 5},
		{what: "IN EAX", reason: 30, info: 0x3f8<<16 | 1<<3 | 3, want: hcl.Exit{Kind: hcl.ExitPIO, Size: 4, Port: 0x3f8, Data: []byte{0, 0, 0, 0}, RIP: at}, answer: fill4, rip: behind, rax: 0xddccbbaa, rdx: 5},
		{what: "IN, but Keel went elsewhere", reason: 30, info: 0x3f8<<16 | 1<<3 | 3, want: hcl.Exit{Kind: hcl.ExitPIO, Size: 4, Port: 0x3f8, Data: []byte{0, 0, 0, 0}, RIP: at}, answer: func(vp *VP, _ *hcl.Exit) {
			r, _ := vp.Registers()
			r.RIP = 0x5000
			vp.SetRegisters(&r)
		}, rip: 0x5000, rax: rax, rdx: 5},
		{what: "REP OUTSB", reason: 30, info: 0x3f8<<16 | 3<<4, want: hcl.Exit{Kind: hcl.ExitMemoryFault, Write: true, Size: 1, Port: 0x3f8, RIP: at}, rip: at, rax: rax, rdx: 5},
		{what: "RDMSR", reason: 31, want: hcl.Exit{Kind: hcl.ExitMSRRead, MSR: 0x1b, RIP: at}, answer: func(vp *VP, _ *hcl.Exit) { vp.CompleteMSR(0xaabbccdd11223344, false) }, rip: behind, rax: 0x11223344, rdx: 0xaabbccdd},
		{what: "RDMSR, refused", reason: 31, want: hcl.Exit{Kind: hcl.ExitMSRRead, MSR: 0x1b, RIP: at}, answer: func(vp *VP, _ *hcl.Exit) { vp.CompleteMSR(1, true) }, rip: at, rax: rax, rdx: 5, inject: injectGP},
		{what: "WRMSR", reason: 32, want: hcl.Exit{Kind: hcl.ExitMSRWrite, MSR: 0x1b, Value: 5<<32 | 0x55667788, RIP: at}, answer: func(vp *VP, _ *hcl.Exit) { vp.CompleteMSR(0, false) }, rip: behind, rax: rax, rdx: 5},
		{what: "HLT", reason: 12, want: hcl.Exit{Kind: hcl.ExitHalt, RIP: behind}, rip: behind, rax: rax, rdx: 5},
		{what: "interrupt window", reason: 7, want: hcl.Exit{Kind: hcl.ExitInterruptWindow, RIP: at}, rip: at, rax: rax, rdx: 5},
		{what: "TPR below threshold", reason: 43, want: hcl.Exit{Kind: hcl.ExitTPR, RIP: at}, rip: at, rax: rax, rdx: 5},
		{what: "triple fault", reason: 2, want: hcl.Exit{Kind: hcl.ExitShutdown, RIP: at}, rip: at, rax: rax, rdx: 5},
		{what: "task switch", reason: 9, want: failed(9), rip: at, rax: rax, rdx: 5},
		{what: "exception", reason: 0, want: failed(0), rip: at, rax: rax, rdx: 5},
		{what: "MOV DR", reason: 29, want: failed(29), rip: at, rax: rax, rdx: 5},
		{what: "MOV to CR3", reason: 28, info: 3, want: failed(28), rip: at, rax: rax, rdx: 5},
		{what: "MOV to CR8", reason: 28, info: 8, want: failed(28), rip: at, rax: rax, rdx: 5},
		{what: "no such reason", reason: 0x1234, want: failed(0x1234), rip: at, rax: rax, rdx: 5},
	} {
		t.Run(c.what, func(t *testing.T) {
			f, _, vp := newVP(t)
			special(t, vp, func(s *hcl.SpecialRegisters) { s.CR0 = protected })
			vp.state.Registers = hcl.Registers{RIP: at, RAX: rax, RCX: 0x1b, RDX: 5, RFLAGS: 2}
			seen := false
			f.script = []step{
				func(g *entered) l2.Exit {
					g.set(tdx.VMCS_INTERRUPTIBILITY, tdx.INTERRUPTIBILITY_MOV_SS, 3)
					return leave(c.reason, c.info)(g)
				},
				func(g *entered) l2.Exit {
					seen = true
					r := g.Registers
					if r.RIP != c.rip || r.RAX != c.rax || r.RDX != c.rdx || g.inject() != c.inject {
						t.Errorf("RIP %#x RAX %#x RDX %#x event %#x, want %#x, %#x, %#x, %#x", r.RIP, r.RAX, r.RDX, g.inject(), c.rip, c.rax, c.rdx, c.inject)
					}
					if shadow := g.get(tdx.VMCS_INTERRUPTIBILITY)&3 != 0; shadow != (c.rip == at) {
						t.Errorf("interrupt shadow %v at %#x", shadow, r.RIP)
					}
					return kick(g)
				},
			}
			e, err := vp.Run()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(e.Data, c.want.Data) {
				t.Errorf("data %x, want %x", e.Data, c.want.Data)
			}
			if !sameExit(e, c.want) {
				t.Errorf("%+v, want %+v", e, c.want)
			}
			if c.answer != nil {
				c.answer(vp, &e)
			}
			if _, err := vp.Run(); err != nil || !seen {
				t.Fatal(err, seen)
			}
		})
	}
}

func sameExit(a, b hcl.Exit) bool {
	return a.Kind == b.Kind && a.Write == b.Write && a.Size == b.Size && a.Port == b.Port && a.MSR == b.MSR &&
		a.GPA == b.GPA && a.RIP == b.RIP && a.Value == b.Value
}

func fill4(_ *VP, e *hcl.Exit) { copy(e.Data, []byte{0xaa, 0xbb, 0xcc, 0xdd}) }

// TestUnknownLength: where hardware did not say how long an instruction is, nothing is
// guessed.
func TestUnknownLength(t *testing.T) {
	for _, reason := range []uint32{tdx.EXIT_IO_INSTRUCTION, tdx.EXIT_MSR_READ, tdx.EXIT_HLT, tdx.EXIT_CPUID, tdx.EXIT_CR_ACCESS} {
		f, _, vp := newVP(t)
		f.script = []step{func(*entered) l2.Exit { return l2.Exit{Reason: reason} }}
		if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitEmulationFailed || e.Value != uint64(reason) {
			t.Errorf("exit %d: %+v, %v", reason, e, err)
		}
	}
}

// TestNextInstruction: outside of 64-bit mode an address has 32 bits.
func TestNextInstruction(t *testing.T) {
	for _, c := range []struct {
		what      string
		change    func(s *hcl.SpecialRegisters)
		rip, want uint64
	}{
		{"64-bit mode", long, 0xffffffff, 0x100000001},
		{"protected mode", func(s *hcl.SpecialRegisters) { s.CR0 = protected }, 0xffffffff, 1},
	} {
		f, _, vp := newVP(t)
		special(t, vp, c.change)
		vp.state.Registers.RIP = c.rip
		f.script = []step{leave(tdx.EXIT_HLT, 0)}
		if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitHalt || e.RIP != c.want {
			t.Errorf("%s: %+v, %v, want RIP %#x", c.what, e, err, c.want)
		}
	}
}

// TestRefusedState: what VM entry does not take is the guest's failure, and what was to
// be injected waits.
func TestRefusedState(t *testing.T) {
	f, _, vp := newVP(t)
	special(t, vp, func(s *hcl.SpecialRegisters) { s.CR0 = 1 << 31 })
	vp.state.Registers.RFLAGS |= 1 << 9
	vp.Inject(0x41)
	f.script = []step{func(g *entered) l2.Exit {
		if g.inject() != 1<<31|0x41 {
			t.Errorf("event %#x", g.inject())
		}
		return kick(g)
	}}
	if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitEmulationFailed || e.Value != 1<<31|33 {
		t.Errorf("%+v, %v", e, err)
	}
	special(t, vp, func(s *hcl.SpecialRegisters) { s.CR0 = 1 })
	if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitKick {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestBroken: what hardware cannot do is the substrate's fault, not the guest's.
func TestBroken(t *testing.T) {
	f, p, vp := newVP(t)
	if _, err := vp.Run(); !errors.Is(err, ErrRun) {
		t.Error(err)
	}
	f.script = []step{leave(tdx.EXIT_CPUID, 0)}
	f.runs = 0
	if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitKick || f.runs != maxSilent {
		t.Errorf("%+v, %v after %d runs: a guest that only executes CPUID must not hold Keel up", e, err, f.runs)
	}
	f.script = []step{func(*entered) l2.Exit { return l2.Exit{Status: tdx.STATUS_PENDING_INTERRUPT} }}
	if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitKick || p.Stats().NotEntered != 1 {
		t.Errorf("%+v, %v, %+v", e, err, p.Stats())
	}
	f.script = []step{func(*entered) l2.Exit { return l2.Exit{Status: tdx.STATUS_OPERAND_INVALID} }}
	if _, err := vp.Run(); !errors.Is(err, ErrRun) || !errors.Is(err, errRefused) {
		t.Error(err)
	}
}

// TestNoAllocation: the run path makes nothing.
func TestNoAllocation(t *testing.T) {
	f, p, vp := newVP(t, hcl.CPUIDEntry{Leaf: 0xd, Indexed: true, EAX: 7})
	if err := p.Accept(0, 4<<20); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		reason uint32
		info   uint64
	}{
		{tdx.EXIT_EXTERNAL_INTERRUPT, 0},
		{tdx.EXIT_IO_INSTRUCTION, 0x3f8 << 16},
		{tdx.EXIT_IO_INSTRUCTION, 0x3f8<<16 | 1<<3 | 3},
		{tdx.EXIT_MSR_READ, 0},
		{tdx.EXIT_HLT, 0},
		{tdx.EXIT_EPT_VIOLATION, 1},
		{tdx.EXIT_CPUID, 0},
		{tdx.EXIT_VMCALL, 0},
		{tdx.EXIT_CR_ACCESS, 4},
	} {
		x := l2.Exit{
			Reason: c.reason, Qualification: c.info, GPA: 0xfee00000, Length: 2,
			IDTVectoring: 1<<31 | 3<<8 | 6,
		}
		f.script = []step{func(g *entered) l2.Exit {
			g.Registers.RAX, g.Registers.RCX = 0xd, 0
			return x
		}}
		if n := testing.AllocsPerRun(20, func() {
			if _, err := vp.Run(); err != nil {
				t.Fatal(err)
			}
			vp.CompleteMSR(1, false)
			vp.CanInject()
			if _, err := vp.SpecialRegisters(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("exit %d allocates %v times", c.reason, n)
		}
	}
}
