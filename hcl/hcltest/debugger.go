package hcltest

import (
	"testing"

	"keel/hcl"
	"keel/hcl/abi/x86"
)

// debugContract lists what a backend must do whose VPs are hcl.Debuggers.
var debugContract = []struct {
	name  string
	check func(m *machine, d hcl.Debugger)
}{
	{"steps", func(m *machine, d hcl.Debugger) {
		m.start(0x90, 0xb0, 0x41, 0x04, 0x01, 0xe6, 0x10, 0xf4) // nop; mov al,41h; add al,1; out 10h,al; hlt
		for _, want := range []hcl.Registers{{RIP: 1}, {RIP: 3, RAX: 0x41}, {RIP: 5, RAX: 0x42}} {
			m.step(d, true)
			m.want(hcl.ExitDebug)
			m.wantAt(want.RIP, want.RAX)
		}
		m.step(d, false)
		m.wantOut(0x10, 0x42)
		m.want(hcl.ExitHalt)
	}},
	{"steps over what exits", func(m *machine, d hcl.Debugger) {
		// in al,10h; mov [d0000010h],al; mov ecx,1bh; rdmsr; hlt
		m.start(0xe4, 0x10, 0xa2, 0x10, 0x00, 0x66, 0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32, 0xf4)
		s, err := m.vp.SpecialRegisters()
		if err != nil {
			m.t.Fatal(err)
		}
		s.DS.Base = uint64(mmioAt)
		m.set(&s, &hcl.Registers{RIP: uint64(codeAt), RFLAGS: 2})
		m.step(d, true)
		m.want(hcl.ExitPIO).Data[0] = 0x99
		m.want(hcl.ExitDebug)
		m.wantAt(2, 0x99)
		m.step(d, true)
		if e := m.want(hcl.ExitMMIO); e.GPA != mmioAt+0x10 || e.Data[0] != 0x99 {
			m.t.Errorf("%+v", e)
		}
		m.want(hcl.ExitDebug)
		m.wantAt(5, 0x99)
		m.step(d, true)
		m.want(hcl.ExitDebug)
		m.step(d, true)
		m.want(hcl.ExitMSRRead)
		m.vp.CompleteMSR(0x1234, false)
		m.want(hcl.ExitDebug)
		m.wantAt(13, 0x1234)
		m.step(d, true)
		m.want(hcl.ExitHalt)
		m.wantAt(14, 0x1234)
	}},
	{"stepped into a handler", func(m *machine, d hcl.Debugger) {
		m.start(0xfb, 0x90, 0x90, 0xf4) // sti; nop; nop; hlt
		for range 2 {                   // the shadow of STI ends
			m.step(d, true)
			m.want(hcl.ExitDebug)
		}
		if err := m.vp.Inject(0x42); err != nil {
			m.t.Fatal(err)
		}
		m.step(d, false)
		m.wantOut(0x70, 0x42)
		m.want(hcl.ExitHalt)
	}},
	{"a kick finishes the instruction", func(m *machine, _ hcl.Debugger) {
		m.start(0xe4, 0x10, 0x90, 0xf4) // in al,10h; nop; hlt
		m.want(hcl.ExitPIO).Data[0] = 0x77
		m.vp.Kick()
		if e, err := m.vp.Run(); err != nil || e.Kind != hcl.ExitKick {
			m.t.Fatalf("%v, %v, want a kick", e.Kind, err)
		}
		m.wantAt(2, 0x77)
		m.want(hcl.ExitHalt)
	}},
	{"reads what was written", func(m *machine, d hcl.Debugger) {
		if err := d.SetMSR(x86.IA32_KERNEL_GS_BASE, 0xffff_8000_1234_5678); err != nil {
			m.t.Fatal(err)
		}
		if v, err := d.MSR(x86.IA32_KERNEL_GS_BASE); err != nil || v != 0xffff_8000_1234_5678 {
			m.t.Errorf("%#x, %v", v, err)
		}
	}},
}

// RunDebugger runs the suite of hcl.Debugger against a backend, as Run does.
func RunDebugger(t *testing.T, open func() (hcl.Partition, error)) {
	t.Helper()
	available(t, open)
	for _, c := range debugContract {
		t.Run("debugger "+c.name, func(t *testing.T) {
			onThread(t, func() {
				m := newMachine(t, open)
				d, ok := m.vp.(hcl.Debugger)
				if !ok {
					t.Fatalf("%T is no debugger", m.vp)
				}
				c.check(m, d)
			})
		})
	}
}

func (m *machine) step(d hcl.Debugger, on bool) {
	m.t.Helper()
	if err := d.Step(on); err != nil {
		m.t.Fatal(err)
	}
}

// wantAt checks where in the program the VP is, and RAX. Nothing of the stepping is to be
// seen in the flags.
func (m *machine) wantAt(offset, rax uint64) {
	m.t.Helper()
	r, err := m.vp.Registers()
	if err != nil {
		m.t.Fatal(err)
	}
	const trapFlag = 1 << 8
	if r.RIP != uint64(codeAt)+offset || r.RAX != rax || r.RFLAGS&trapFlag != 0 {
		m.t.Fatalf("RIP %#x, RAX %#x, RFLAGS %#x; want offset %d and RAX %#x", r.RIP, r.RAX, r.RFLAGS, offset, rax)
	}
}
