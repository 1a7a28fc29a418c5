package snp

import (
	"bytes"
	"errors"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/snp/vmsa"
)

// exception is EVENTINJ of an exception (APM vol. 2 §15.20).
func exception(vector uint64, code bool) uint64 {
	e := 1<<31 | 3<<8 | vector
	if code {
		e |= 1 << 11
	}
	return e
}

const protected = 0x80000011 // CR0 with paging and protection

// TestSilentExits: what Run handles itself, seen by the state of the next entry. Each
// instruction is at 1000h and of two bytes.
func TestSilentExits(t *testing.T) {
	table := []hcl.CPUIDEntry{
		{Leaf: 1, EAX: 0x830f10, ECX: 1 << 26, EDX: 7},
		{Leaf: 7, Indexed: true, ECX: 1<<4 | 1<<3},
		{Leaf: 0xd, Indexed: true, EAX: 7, EBX: 1, ECX: 0x340},
		{Leaf: 0xd, Indexed: true, Subleaf: 1, EAX: 0xf, EBX: 1, ECX: 1 << 11},
		{Leaf: 0xd, Indexed: true, Subleaf: 2, EAX: 0x100, EBX: 0x240},
		{Leaf: 0xd, Indexed: true, Subleaf: 11, EAX: 0x10, ECX: 1<<1 | 1},
	}
	const gp, at, behind = true, 0x1000, 0x1002
	for _, c := range []struct {
		what       string
		code, info uint64
		before     func(a *vmsa.SaveArea)
		rip        uint64
		inject     uint64
		check      func(a *vmsa.SaveArea) bool
		stats      Stats
	}{
		{what: "CPUID", code: 0x72, before: regs(1, 0, 0), rip: behind, check: func(a *vmsa.SaveArea) bool {
			return a.Registers.RAX == 0x830f10 && a.Registers.RCX == 1<<26 && a.Registers.RDX == 7
		}},
		{what: "CPUID, OSXSAVE", code: 0x72, before: both(regs(1, 0, 0), cr4(1<<18)), rip: behind, check: func(a *vmsa.SaveArea) bool {
			return a.Registers.RCX == 1<<26|1<<27
		}},
		{what: "CPUID, OSPKE off", code: 0x72, before: regs(7, 0, 0), rip: behind, check: func(a *vmsa.SaveArea) bool {
			return a.Registers.RCX == 1<<3
		}},
		{what: "CPUID, OSPKE on", code: 0x72, before: both(regs(7, 0, 0), cr4(1<<22)), rip: behind, check: func(a *vmsa.SaveArea) bool {
			return a.Registers.RCX == 1<<4|1<<3
		}},
		{what: "CPUID, area for x87", code: 0x72, before: regs(0xd, 0, 0), rip: behind, check: rbx(576)},
		{what: "CPUID, area with AVX", code: 0x72, before: both(regs(0xd, 0, 0), xcr0(7, 0)), rip: behind, check: rbx(0x340)},
		{what: "CPUID, compacted", code: 0x72, before: both(regs(0xd, 1, 0), xcr0(7, 1<<11)), rip: behind, check: rbx(0x350)},
		{what: "CPUID, no such leaf", code: 0x72, before: regs(0x8fffffff, 1<<32|5, 1), rip: behind, check: func(a *vmsa.SaveArea) bool {
			r := a.Registers
			return r.RAX|r.RBX|r.RCX|r.RDX == 0
		}},
		{what: "RDTSC", code: 0x6e, rip: behind, check: func(a *vmsa.SaveArea) bool {
			return a.Registers.RAX == 0x55667788 && a.Registers.RDX == 0x11223344
		}},
		{what: "RDTSCP", code: 0x87, before: func(a *vmsa.SaveArea) { a.TSCAux = 9 }, rip: behind, check: func(a *vmsa.SaveArea) bool {
			return a.Registers.RCX == 9
		}},
		{what: "XSETBV", code: 0x8d, before: both(regs(7, 0, 0), cr4(1<<18)), rip: behind, check: func(a *vmsa.SaveArea) bool { return a.XCR0 == 7 }},
		{what: "XSETBV, AVX without SSE", code: 0x8d, before: both(regs(5, 0, 0), cr4(1<<18)), rip: at, inject: exception(13, gp), stats: Stats{RefusedXCR0: 1}},
		{what: "XSETBV, without x87", code: 0x8d, before: both(regs(6, 0, 0), cr4(1<<18)), rip: at, inject: exception(13, gp), stats: Stats{RefusedXCR0: 1}},
		{what: "XSETBV, unknown bit", code: 0x8d, before: both(regs(0x207, 0, 0), cr4(1<<18)), rip: at, inject: exception(13, gp), stats: Stats{RefusedXCR0: 1}},
		{what: "XSETBV of another register", code: 0x8d, before: both(regs(7, 1, 0), cr4(1<<18)), rip: at, inject: exception(13, gp), stats: Stats{RefusedXCR0: 1}},
		{what: "XSETBV, OSXSAVE off", code: 0x8d, before: regs(7, 0, 0), rip: at, inject: exception(13, gp), stats: Stats{RefusedXCR0: 1}},
		{what: "WBINVD", code: 0x89, rip: behind},
		{what: "MWAIT", code: 0x8b, rip: behind},
		{what: "VMMCALL", code: 0x81, rip: at, inject: exception(6, false), stats: Stats{RefusedInstructions: 1}},
		{what: "VMGEXIT", code: 0x403, rip: at, inject: exception(6, false), stats: Stats{RefusedInstructions: 1}},
		{what: "RDPMC", code: 0x6f, rip: at, inject: exception(13, gp), stats: Stats{RefusedInstructions: 1}},
		{what: "busy", code: snp.EXIT_BUSY, rip: at, stats: Stats{Busy: 1}},

		{what: "RDMSR LSTAR", code: 0x7c, before: both(regs(0, 0xc0000082, 0), func(a *vmsa.SaveArea) { a.LSTAR = 0xffff800011112222 }), rip: behind, check: func(a *vmsa.SaveArea) bool {
			return a.Registers.RAX == 0x11112222 && a.Registers.RDX == 0xffff8000
		}},
		{what: "WRMSR LSTAR", code: 0x7c, info: 1, before: regs(0x1000, 0xc0000082, 0xffff8000), rip: behind, check: func(a *vmsa.SaveArea) bool { return a.LSTAR == 0xffff800000001000 }},
		{what: "WRMSR LSTAR, not canonical", code: 0x7c, info: 1, before: regs(0, 0xc0000082, 0x80000000), rip: at, inject: exception(13, gp)},
		{what: "WRMSR PAT", code: 0x7c, info: 1, before: regs(0x05040100, 0x277, 0x07060500), rip: behind, check: func(a *vmsa.SaveArea) bool { return a.PAT == 0x0706050005040100 }},
		{what: "WRMSR PAT, no such type", code: 0x7c, info: 1, before: regs(2, 0x277, 0), rip: at, inject: exception(13, gp)},
		{what: "WRMSR TSC_AUX", code: 0x7c, info: 1, before: regs(3, 0xc0000103, 0), rip: behind, check: func(a *vmsa.SaveArea) bool { return a.TSCAux == 3 }},
		{what: "WRMSR EFER", code: 0x7c, info: 1, before: regs(0x801, 0xc0000080, 0), rip: behind, check: func(a *vmsa.SaveArea) bool { return a.Special.EFER == 0x801 && a.SVME }},
		{what: "WRMSR EFER, SVME", code: 0x7c, info: 1, before: regs(0x1000, 0xc0000080, 0), rip: at, inject: exception(13, gp), stats: Stats{RefusedEFER: 1}},
		{what: "WRMSR EFER, LME while paging", code: 0x7c, info: 1, before: both(regs(0x100, 0xc0000080, 0), cr4(1<<5)), rip: at, inject: exception(13, gp), stats: Stats{RefusedEFER: 1}},
		{what: "WRMSR XSS", code: 0x7c, info: 1, before: regs(1<<11, 0xda0, 0), rip: behind, check: func(a *vmsa.SaveArea) bool { return a.XSS == 1<<11 }},
		{what: "WRMSR XSS, unknown bit", code: 0x7c, info: 1, before: regs(1<<8, 0xda0, 0), rip: at, inject: exception(13, gp), stats: Stats{RefusedXSS: 1}},

		{what: "CR0 trap", code: 0x90, before: cr0(0x80010031), rip: at, check: func(a *vmsa.SaveArea) bool { return a.Special.CR0 == 0x80010031 }},
		{what: "CR0 trap, NW alone", code: 0x90, before: cr0(protected | 1<<29), rip: at, inject: exception(13, gp), stats: Stats{RefusedCR: 1}, check: func(a *vmsa.SaveArea) bool { return a.Special.CR0 == protected }},
		{what: "CR0 trap, paging alone", code: 0x90, before: cr0(1 << 31), rip: at, inject: exception(13, gp), stats: Stats{RefusedCR: 1}, check: func(a *vmsa.SaveArea) bool { return a.Special.CR0 == protected }},
		{what: "CR4 trap", code: 0x94, before: cr4(1<<5 | 1<<18), rip: at, check: func(a *vmsa.SaveArea) bool { return a.Special.CR4 == 1<<5|1<<18 }},
		{what: "CR4 trap, VMXE", code: 0x94, before: cr4(1 << 13), rip: at, inject: exception(13, gp), stats: Stats{RefusedCR: 1}, check: func(a *vmsa.SaveArea) bool { return a.Special.CR4 == 0 }},
		{what: "CR4 trap, reserved", code: 0x94, before: cr4(1 << 40), rip: at, inject: exception(13, gp), stats: Stats{RefusedCR: 1}, check: func(a *vmsa.SaveArea) bool { return a.Special.CR4 == 0 }},
		{what: "EFER trap", code: 0x8f, before: func(a *vmsa.SaveArea) { a.Special.EFER = 0x801 }, rip: at, check: func(a *vmsa.SaveArea) bool { return a.Special.EFER == 0x801 }},
		{what: "EFER trap, LMSLE", code: 0x8f, before: func(a *vmsa.SaveArea) { a.Special.EFER = 1 << 13 }, rip: at, inject: exception(13, gp), stats: Stats{RefusedEFER: 1}, check: func(a *vmsa.SaveArea) bool { return a.Special.EFER == 0 && a.SVME }},
	} {
		t.Run(c.what, func(t *testing.T) {
			f, p, vp := newVP(t, table...)
			vp.area.Special.CR0, vp.area.Registers.RIP = protected, at
			var entered vmsa.SaveArea
			f.script = []func(a *vmsa.SaveArea){
				func(a *vmsa.SaveArea) {
					if c.before != nil {
						c.before(a)
					}
					leave(c.code, c.info, 0)(a)
				},
				func(a *vmsa.SaveArea) { entered = *a; leave(snp.EXIT_INTR, 0, 0)(a) },
			}
			if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitKick && c.code != snp.EXIT_BUSY {
				t.Fatalf("%+v, %v", e, err)
			}
			if c.code == snp.EXIT_BUSY {
				if _, err := vp.Run(); err != nil {
					t.Fatal(err)
				}
			}
			if entered.Registers.RIP != c.rip || entered.EventInj != c.inject {
				t.Errorf("RIP %#x, EVENTINJ %#x, want %#x, %#x", entered.Registers.RIP, entered.EventInj, c.rip, c.inject)
			}
			if c.check != nil && !c.check(&entered) {
				t.Errorf("entered with %+v", entered)
			}
			if got := p.Stats(); got != c.stats {
				t.Errorf("counted %+v, want %+v", got, c.stats)
			}
		})
	}
}

func regs(rax, rcx, rdx uint64) func(a *vmsa.SaveArea) {
	return func(a *vmsa.SaveArea) { a.Registers.RAX, a.Registers.RCX, a.Registers.RDX = rax, rcx, rdx }
}

func cr0(v uint64) func(a *vmsa.SaveArea) { return func(a *vmsa.SaveArea) { a.Special.CR0 = v } }

func cr4(v uint64) func(a *vmsa.SaveArea) { return func(a *vmsa.SaveArea) { a.Special.CR4 = v } }

func xcr0(v, xss uint64) func(a *vmsa.SaveArea) {
	return func(a *vmsa.SaveArea) { a.XCR0, a.XSS = v, xss }
}

func rbx(v uint64) func(a *vmsa.SaveArea) bool {
	return func(a *vmsa.SaveArea) bool { return a.Registers.RBX == v }
}

func both(f, g func(a *vmsa.SaveArea)) func(a *vmsa.SaveArea) {
	return func(a *vmsa.SaveArea) { f(a); g(a) }
}

// TestExits: what the caller sees, what he answers, and what the guest goes on with.
func TestExits(t *testing.T) {
	const at, behind = 0x1000, 0x1002
	for _, c := range []struct {
		what       string
		code, info uint64
		want       hcl.Exit
		answer     func(vp *VP, e *hcl.Exit)
		rip, rax   uint64
		rdx        uint64
		inject     uint64
	}{
		{what: "OUT", code: 0x7b, info: 0x3f8<<16 | 1<<4, want: hcl.Exit{Kind: hcl.ExitPIO, Write: true, Size: 1, Port: 0x3f8, Data: []byte{0x88}, RIP: at}, rip: behind, rax: 0x1122334455667788, rdx: 5},
		{what: "IN AL", code: 0x7b, info: 0x3f8<<16 | 1<<4 | 1, want: hcl.Exit{Kind: hcl.ExitPIO, Size: 1, Port: 0x3f8, Data: []byte{0}, RIP: at}, answer: fill4, rip: behind, rax: 0x11223344556677aa, rdx: 5},
		{what: "IN AX", code: 0x7b, info: 0x3f8<<16 | 2<<4 | 1, want: hcl.Exit{Kind: hcl.ExitPIO, Size: 2, Port: 0x3f8, Data: []byte{0, 0}, RIP: at}, answer: fill4, rip: behind, rax: 0x112233445566bbaa, rdx: 5},
		{what: "IN EAX", code: 0x7b, info: 0x3f8<<16 | 4<<4 | 1, want: hcl.Exit{Kind: hcl.ExitPIO, Size: 4, Port: 0x3f8, Data: []byte{0, 0, 0, 0}, RIP: at}, answer: fill4, rip: behind, rax: 0xddccbbaa, rdx: 5},
		{what: "IN, but Keel went elsewhere", code: 0x7b, info: 0x3f8<<16 | 4<<4 | 1, want: hcl.Exit{Kind: hcl.ExitPIO, Size: 4, Port: 0x3f8, Data: []byte{0, 0, 0, 0}, RIP: at}, answer: func(vp *VP, _ *hcl.Exit) {
			r, _ := vp.Registers()
			r.RIP = 0x5000
			vp.SetRegisters(&r)
		}, rip: 0x5000, rax: 0x1122334455667788, rdx: 5},
		{what: "REP OUTSB", code: 0x7b, info: 0x3f8<<16 | 1<<4 | 3<<2, want: hcl.Exit{Kind: hcl.ExitMemoryFault, Write: true, Size: 1, Port: 0x3f8, RIP: at}, rip: at, rax: 0x1122334455667788, rdx: 5},
		{what: "RDMSR", code: 0x7c, want: hcl.Exit{Kind: hcl.ExitMSRRead, MSR: 0x1b, RIP: at}, answer: func(vp *VP, _ *hcl.Exit) { vp.CompleteMSR(0xaabbccdd11223344, false) }, rip: behind, rax: 0x11223344, rdx: 0xaabbccdd},
		{what: "RDMSR, refused", code: 0x7c, want: hcl.Exit{Kind: hcl.ExitMSRRead, MSR: 0x1b, RIP: at}, answer: func(vp *VP, _ *hcl.Exit) { vp.CompleteMSR(1, true) }, rip: at, rax: 0x1122334455667788, rdx: 5, inject: exception(13, true)},
		{what: "WRMSR", code: 0x7c, info: 1, want: hcl.Exit{Kind: hcl.ExitMSRWrite, MSR: 0x1b, Value: 5<<32 | 0x55667788, RIP: at}, answer: func(vp *VP, _ *hcl.Exit) { vp.CompleteMSR(0, false) }, rip: behind, rax: 0x1122334455667788, rdx: 5},
		{what: "HLT", code: 0x78, want: hcl.Exit{Kind: hcl.ExitHalt, RIP: behind}, rip: behind, rax: 0x1122334455667788, rdx: 5},
		{what: "VINTR", code: 0x64, want: hcl.Exit{Kind: hcl.ExitInterruptWindow, RIP: at}, rip: at, rax: 0x1122334455667788, rdx: 5},
		{what: "CR8 trap", code: 0x98, want: hcl.Exit{Kind: hcl.ExitTPR, RIP: at}, rip: at, rax: 0x1122334455667788, rdx: 5},
		{what: "SHUTDOWN", code: 0x7f, want: hcl.Exit{Kind: hcl.ExitShutdown, RIP: at}, rip: at, rax: 0x1122334455667788, rdx: 5},
		{what: "INVALID", code: snp.EXIT_INVALID, want: hcl.Exit{Kind: hcl.ExitEmulationFailed, Value: snp.EXIT_INVALID, RIP: at}, rip: at, rax: 0x1122334455667788, rdx: 5},
		{what: "task switch", code: 0x7d, want: hcl.Exit{Kind: hcl.ExitEmulationFailed, Value: 0x7d, RIP: at}, rip: at, rax: 0x1122334455667788, rdx: 5},
		{what: "no such code", code: 0x12345, want: hcl.Exit{Kind: hcl.ExitEmulationFailed, Value: 0x12345, RIP: at}, rip: at, rax: 0x1122334455667788, rdx: 5},
	} {
		t.Run(c.what, func(t *testing.T) {
			f, _, vp := newVP(t)
			var entered vmsa.SaveArea
			f.script = []func(a *vmsa.SaveArea){leave(c.code, c.info, 0), func(a *vmsa.SaveArea) { entered = *a; leave(snp.EXIT_INTR, 0, 0)(a) }}
			vp.area.Special.CR0 = protected
			vp.area.Registers = hcl.Registers{RIP: at, RAX: 0x1122334455667788, RCX: 0x1b, RDX: 5, RFLAGS: 2}
			vp.area.VINTR |= snp.VINTR_INT_SHADOW
			e, err := vp.Run()
			if err != nil {
				t.Fatal(err)
			}
			data := e.Data
			if !bytes.Equal(data, c.want.Data) {
				t.Errorf("data %x, want %x", data, c.want.Data)
			}
			if !sameExit(e, c.want) {
				t.Errorf("%+v, want %+v", e, c.want)
			}
			if c.answer != nil {
				c.answer(vp, &e)
			}
			if _, err := vp.Run(); err != nil {
				t.Fatal(err)
			}
			r := entered.Registers
			if r.RIP != c.rip || r.RAX != c.rax || r.RDX != c.rdx || entered.EventInj != c.inject {
				t.Errorf("RIP %#x RAX %#x RDX %#x EVENTINJ %#x, want %#x, %#x, %#x, %#x", r.RIP, r.RAX, r.RDX, entered.EventInj, c.rip, c.rax, c.rdx, c.inject)
			}
			if shadow := entered.VINTR&snp.VINTR_INT_SHADOW != 0; shadow != (c.rip != behind) {
				t.Errorf("interrupt shadow %v at %#x", shadow, r.RIP)
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
	for _, code := range []uint64{snp.EXIT_IOIO, snp.EXIT_MSR, snp.EXIT_HLT, snp.EXIT_CPUID} {
		f, _, vp := newVP(t)
		f.script = []func(a *vmsa.SaveArea){func(a *vmsa.SaveArea) { a.Exit = vmsa.ExitInfo{Code: code, Info1: 1 << 4} }}
		if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitEmulationFailed || e.Value != code {
			t.Errorf("exit %#x: %+v, %v", code, e, err)
		}
	}
}

// TestEvents: EVENTINJ, VINTR_CTRL and EXITINTINFO (§15.20, §15.7.2, §15.36.16).
func TestEvents(t *testing.T) {
	const interrupt = 1<<31 | 0x41
	for _, c := range []struct {
		what   string
		before func(vp *VP)
		exit   func(a *vmsa.SaveArea)
		inject uint64 // at the second entry
	}{
		{"interrupt that came back", nil, withIntInfo(snp.EXIT_INTR, interrupt), interrupt},
		{"NMI that came back", nil, withIntInfo(snp.EXIT_INTR, 1<<31|2<<8|2), 1<<31 | 2<<8 | 2},
		{"#PF that came back", nil, withIntInfo(snp.EXIT_INTR, 1<<31|1<<11|3<<8|14|6<<32), 1<<31 | 1<<11 | 3<<8 | 14 | 6<<32},
		{"software interrupt", nil, withIntInfo(snp.EXIT_INTR, 1<<31|4<<8|0x80), 0},
		{"INT3", nil, withIntInfo(snp.EXIT_INTR, 1<<31|3<<8|3), 0},
		{"not valid", nil, withIntInfo(snp.EXIT_INTR, 0x41), 0},
		{"delivered", func(vp *VP) { vp.Inject(0x41) }, leave(snp.EXIT_INTR, 0, 0), 0},
		{"not entered", func(vp *VP) { vp.Inject(0x41) }, func(a *vmsa.SaveArea) { a.Exit.Code = snp.EXIT_IDLE_REQUIRED }, interrupt},
	} {
		t.Run(c.what, func(t *testing.T) {
			f, _, vp := newVP(t)
			var second uint64
			f.script = []func(a *vmsa.SaveArea){c.exit, func(a *vmsa.SaveArea) { second = a.EventInj; leave(snp.EXIT_INTR, 0, 0)(a) }}
			if c.before != nil {
				c.before(vp)
			}
			for range 2 {
				if _, err := vp.Run(); err != nil {
					t.Fatal(err)
				}
			}
			if second != c.inject {
				t.Errorf("EVENTINJ %#x, want %#x", second, c.inject)
			}
		})
	}
	f, _, vp := newVP(t)
	var vintr uint64
	f.script = []func(a *vmsa.SaveArea){func(a *vmsa.SaveArea) { vintr = a.VINTR; leave(snp.EXIT_VINTR, 0, 0)(a) }}
	vp.RequestInterruptWindow(true)
	vp.SetCR8(5)
	vp.InjectNMI()
	if _, err := vp.Run(); err != nil || vintr != 1<<26|1<<20|0xf<<16|1<<11|1<<9|1<<8|5 {
		t.Errorf("VINTR_CTRL %#x, %v", vintr, err)
	}
	vp.RequestInterruptWindow(false)
	if _, err := vp.Run(); err != nil || vintr&(1<<8|0xf<<16) != 0 || vp.CR8() != 5 {
		t.Errorf("VINTR_CTRL %#x, CR8 %d, %v", vintr, vp.CR8(), err)
	}
}

func withIntInfo(code, info uint64) func(a *vmsa.SaveArea) {
	return func(a *vmsa.SaveArea) { leave(code, 0, 0)(a); a.Exit.IntInfo = info }
}

// TestCanInject: RFLAGS.IF, the interrupt shadow, and what is queued already.
func TestCanInject(t *testing.T) {
	_, _, vp := newVP(t)
	if vp.CanInject() {
		t.Error("with RFLAGS.IF clear")
	}
	vp.area.Registers.RFLAGS |= 1 << 9
	if !vp.CanInject() || !vp.InterruptFlag() {
		t.Error("not with RFLAGS.IF")
	}
	vp.area.VINTR |= 1 << 10
	if vp.CanInject() {
		t.Error("in an interrupt shadow")
	}
	vp.area.VINTR &^= 1 << 10
	vp.Inject(0x41)
	if vp.CanInject() {
		t.Error("behind another one")
	}
	vp.InjectException(14, 2, true)
	if vp.p.Stats().LostEvents != 1 || vp.area.EventInj != 1<<31|1<<11|3<<8|14|2<<32 {
		t.Errorf("EVENTINJ %#x, %+v", vp.area.EventInj, vp.p.Stats())
	}
}

// TestBroken: what hardware cannot do is the substrate's fault, not the guest's.
func TestBroken(t *testing.T) {
	f, _, vp := newVP(t)
	if _, err := vp.Run(); !errors.Is(err, ErrRun) {
		t.Error(err)
	}
	f.script = []func(a *vmsa.SaveArea){leave(snp.EXIT_CPUID, 0, 0)}
	if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitKick || f.runs != maxSilent {
		t.Errorf("%+v, %v after %d runs: a guest that only executes CPUID must not hold Keel up", e, err, f.runs)
	}
}

// TestNoAllocation: the run path makes nothing.
func TestNoAllocation(t *testing.T) {
	f, _, vp := newVP(t, hcl.CPUIDEntry{Leaf: 0xd, Indexed: true, EAX: 7})
	for _, c := range []struct{ code, info uint64 }{
		{snp.EXIT_INTR, 0},
		{snp.EXIT_IOIO, 0x3f8<<16 | 1<<4},
		{snp.EXIT_IOIO, 0x3f8<<16 | 4<<4 | 1},
		{snp.EXIT_MSR, 0},
		{snp.EXIT_HLT, 0},
		{snp.EXIT_NPF, 0},
		{snp.EXIT_CPUID, 0},
		{snp.EXIT_VMMCALL, 0},
		{snp.EXIT_CR4_WRITE_TRAP, 0},
	} {
		f.script = []func(a *vmsa.SaveArea){func(a *vmsa.SaveArea) {
			a.Registers.RAX, a.Registers.RCX = 0xd, 0
			a.Exit = vmsa.ExitInfo{Code: c.code, Info1: c.info, Info2: 0xfee00000, NRIP: a.Registers.RIP + 2, IntInfo: 1<<31 | 0x41}
		}}
		if n := testing.AllocsPerRun(20, func() {
			if _, err := vp.Run(); err != nil {
				t.Fatal(err)
			}
			vp.CompleteMSR(1, false)
			vp.CanInject()
		}); n != 0 {
			t.Errorf("exit %#x allocates %v times", c.code, n)
		}
	}
}
