package hcltest

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/hcl/sys"
)

// contract lists what every backend must do. Programs are 16-bit code; the
// comment beside each shows it in assembly.
var contract = []struct {
	name  string
	check func(m *machine)
}{
	{"port I/O", func(m *machine) {
		m.start(0xb0, 0x41, 0xe6, 0x10, 0xe4, 0x11, 0xe6, 0x12, 0xf4) // mov al,41h; out 10h,al; in al,11h; out 12h,al; hlt
		m.wantOut(0x10, 0x41)
		if e := m.want(hcl.ExitPIO); e.Write || e.Port != 0x11 || len(e.Data) != 1 {
			m.t.Fatalf("%+v, want IN 0x11", e)
		} else {
			e.Data[0] = 0x99
		}
		m.wantOut(0x12, 0x99)
		m.want(hcl.ExitHalt)
	}},
	{"string port output", func(m *machine) {
		text := []byte("keel")
		copy(m.memory[dataAt:], text)
		m.start(0xbe, 0x00, 0x30, 0xb9, 0x04, 0x00, 0xba, 0x10, 0x00, 0xfc, 0xf3, 0x6e, 0xf4) // mov si,3000h; mov cx,4; mov dx,10h; cld; rep outsb; hlt
		var got []byte
		for len(got) < len(text) {
			got = append(got, m.want(hcl.ExitPIO).Data...)
		}
		if !bytes.Equal(got, text) {
			m.t.Errorf("the string came as %q", got)
		}
		m.want(hcl.ExitHalt)
	}},
	{"string port input", func(m *machine) {
		m.start(0xbf, 0x00, 0x30, 0xb9, 0x04, 0x00, 0xba, 0x10, 0x00, 0xfc, 0xf3, 0x6c, 0xf4) // mov di,3000h; mov cx,4; mov dx,10h; cld; rep insb; hlt
		e := m.run()
		for next := byte(1); e.Kind == hcl.ExitPIO; e = m.run() {
			for i := range e.Data {
				e.Data[i] = next
				next++
			}
		}
		if got := m.memory[dataAt : dataAt+4]; e.Kind != hcl.ExitHalt || !bytes.Equal(got, []byte{1, 2, 3, 4}) {
			m.t.Errorf("memory holds %v after %v", got, e.Kind)
		}
	}},
	{"MMIO", func(m *machine) {
		m.start(0xa1, 0x10, 0x00, 0xa3, 0x20, 0x00, 0xf4) // mov ax,[10h]; mov [20h],ax; hlt
		s, err := m.vp.SpecialRegisters()
		if err != nil {
			m.t.Fatal(err)
		}
		s.DS.Base = uint64(mmioAt)
		m.set(&s, &hcl.Registers{RIP: uint64(codeAt), RFLAGS: 2})
		e := m.want(hcl.ExitMMIO)
		if e.Write || e.GPA != mmioAt+0x10 || len(e.Data) != 2 {
			m.t.Fatalf("%+v, want a read of 2 bytes at %#x", e, mmioAt+0x10)
		}
		copy(e.Data, []byte{0x34, 0x12})
		if e = m.want(hcl.ExitMMIO); !e.Write || e.GPA != mmioAt+0x20 || !bytes.Equal(e.Data, []byte{0x34, 0x12}) {
			m.t.Fatalf("%+v, want a write of 0x1234 at %#x", e, mmioAt+0x20)
		}
		m.want(hcl.ExitHalt)
	}},
	{"MSR that Keel answers", func(m *machine) {
		m.start(0x66, 0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32, 0x66, 0xe7, 0x10, 0xf4) // mov ecx,1bh; rdmsr; out 10h,eax; hlt
		if e := m.want(hcl.ExitMSRRead); e.MSR != x86.IA32_APIC_BASE {
			m.t.Fatalf("%+v, want IA32_APIC_BASE", e)
		}
		m.vp.CompleteMSR(0xfee00900, false)
		if e := m.want(hcl.ExitPIO); binary.LittleEndian.Uint32(e.Data) != 0xfee00900 {
			m.t.Errorf("the guest read %x", e.Data)
		}
	}},
	{"MSR write and fault", func(m *machine) {
		// mov ecx,6e0h; mov eax,7; mov edx,1; wrmsr; mov ecx,802h; rdmsr
		m.start(0x66, 0xb9, 0xe0, 0x06, 0, 0, 0x66, 0xb8, 7, 0, 0, 0, 0x66, 0xba, 1, 0, 0, 0, 0x0f, 0x30,
			0x66, 0xb9, 0x02, 0x08, 0, 0, 0x0f, 0x32)
		if e := m.want(hcl.ExitMSRWrite); e.MSR != x86.IA32_TSC_DEADLINE || e.Value != 1<<32|7 {
			m.t.Fatalf("%+v, want a write of IA32_TSC_DEADLINE", e)
		}
		m.vp.CompleteMSR(0, false)
		if e := m.want(hcl.ExitMSRRead); e.MSR != 0x802 {
			m.t.Fatalf("%+v, want x2APIC ID", e)
		}
		m.vp.CompleteMSR(0, true)
		m.wantOut(0x70, 13) // #GP
	}},
	{"exception", func(m *machine) {
		m.start(0xb0, 0x01, 0xe6, 0x10, 0xf4)                      // mov al,1; out 10h,al; hlt
		if err := m.vp.InjectException(13, 0, false); err != nil { // #GP, which has no code in real mode
			m.t.Fatal(err)
		}
		m.wantOut(0x70, 13)
		m.wantOut(0x10, 1)
		m.want(hcl.ExitHalt)
	}},
	{"interrupt into HLT", func(m *machine) {
		m.start(0xfb, 0xf4, 0xb0, 0x01, 0xe6, 0x10, 0xf4) // sti; hlt; mov al,1; out 10h,al; hlt
		m.want(hcl.ExitHalt)
		if !m.vp.CanInject() || !m.vp.InterruptFlag() {
			m.t.Fatal("a halted guest with interrupts on takes none")
		}
		if err := m.vp.Inject(0x40); err != nil {
			m.t.Fatal(err)
		}
		m.wantOut(0x70, 0x40)
		m.wantOut(0x10, 1)
	}},
	{"interrupt window", func(m *machine) {
		m.start(0xfa, 0xe6, 0x10, 0xfb, 0x90, 0x90, 0xe6, 0x11, 0xf4) // cli; out 10h,al; sti; nop; nop; out 11h,al; hlt
		m.want(hcl.ExitPIO)
		if m.vp.CanInject() || m.vp.InterruptFlag() {
			m.t.Fatal("the guest takes interrupts after CLI")
		}
		m.vp.RequestInterruptWindow(true)
		m.want(hcl.ExitInterruptWindow)
		if !m.vp.CanInject() {
			m.t.Fatal("the window is shut")
		}
		m.vp.RequestInterruptWindow(false)
		if err := m.vp.Inject(0x41); err != nil {
			m.t.Fatal(err)
		}
		if m.vp.CanInject() {
			m.t.Error("room for a second interrupt before the first was taken")
		}
		m.wantOut(0x70, 0x41)
		if e := m.want(hcl.ExitPIO); e.Port != 0x11 {
			m.t.Errorf("%+v, want the program to go on", e)
		}
	}},
	{"interrupt beside a fault", func(m *machine) {
		m.start(0xfb, 0x66, 0xb9, 0x02, 0x08, 0, 0, 0x0f, 0x32) // sti; mov ecx,802h; rdmsr, which faults again and again
		seen := map[byte]bool{}
		wanted := true
		for range 20 {
			if e := m.run(); e.Kind == hcl.ExitMSRRead {
				m.vp.CompleteMSR(0, true)
			} else if e.Kind == hcl.ExitPIO {
				seen[e.Data[0]] = true
			}
			// An interrupt is given as soon as the guest is said to take one.
			if wanted && m.vp.CanInject() {
				if err := m.vp.Inject(0x42); err != nil {
					m.t.Fatal(err)
				}
				wanted = false
			}
			m.vp.RequestInterruptWindow(wanted)
		}
		if !seen[13] || !seen[0x42] {
			m.t.Errorf("the guest handled %v, want the fault (13) and the interrupt (66)", seen)
		}
	}},
	{"NMI", func(m *machine) {
		m.start(0xfa, 0xf4, 0xe6, 0x10) // cli; hlt; out 10h,al
		m.want(hcl.ExitHalt)
		if err := m.vp.InjectNMI(); err != nil {
			m.t.Fatal(err)
		}
		m.wantOut(0x70, 2)
		if e := m.want(hcl.ExitPIO); e.Port != 0x10 {
			m.t.Errorf("%+v, want the program to go on", e)
		}
	}},
	{"kick", func(m *machine) {
		m.start(0xeb, 0xfe) // jmp $
		go func() {
			time.Sleep(20 * time.Millisecond)
			m.vp.Kick()
		}()
		for range 2 { // the second is sent before Run
			if e, err := m.vp.Run(); err != nil || e.Kind != hcl.ExitKick {
				m.t.Fatalf("%v, %v, want a kick", e.Kind, err)
			}
			m.vp.Kick()
		}
		if e, err := m.vp.Run(); err != nil || e.Kind != hcl.ExitKick {
			m.t.Fatalf("%v, %v, want the kick that was sent early", e.Kind, err)
		}
	}},
	{"collector beside a busy guest", func(m *machine) {
		m.start(0xeb, 0xfe) // jmp $
		done := make(chan struct{})
		go func() {
			runtime.GC() // stops every thread of Go, or never ends
			close(done)
			m.vp.Kick()
		}()
		for collected := false; !collected; {
			if e, err := m.vp.Run(); err != nil || e.Kind != hcl.ExitKick {
				m.t.Fatalf("%v, %v, want a kick", e.Kind, err)
			}
			select {
			case <-done:
				collected = true
			default:
			}
		}
	}},
	{"triple fault", func(m *machine) {
		m.start(0x0f, 0x0b) // ud2
		s, err := m.vp.SpecialRegisters()
		if err != nil {
			m.t.Fatal(err)
		}
		s.IDT = hcl.Table{}
		m.set(&s, &hcl.Registers{RIP: uint64(codeAt), RFLAGS: 2})
		m.want(hcl.ExitShutdown)
	}},
	{"code outside of RAM", func(m *machine) {
		m.start()
		s, err := m.vp.SpecialRegisters()
		if err != nil {
			m.t.Fatal(err)
		}
		s.CS.Base = uint64(mmioAt)
		m.set(&s, &hcl.Registers{RIP: 0, RFLAGS: 2})
		m.want(hcl.ExitEmulationFailed)
	}},
	{"CPUID", func(m *machine) {
		m.start(0x66, 0x31, 0xc0, 0x66, 0x31, 0xc9, 0x0f, 0xa2, 0x66, 0x89, 0xd8, 0x66, 0xe7, 0x10) // xor eax,eax; xor ecx,ecx; cpuid; mov eax,ebx; out 10h,eax
		if e := m.want(hcl.ExitPIO); binary.LittleEndian.Uint32(e.Data) != cpuidMarker {
			m.t.Errorf("leaf 0 gave EBX %x, want %#x", e.Data, cpuidMarker)
		}
	}},
	{"time stamp counter", func(m *machine) {
		m.start(0x0f, 0x31, 0x66, 0xe7, 0x10, 0x66, 0x89, 0xd0, 0x66, 0xe7, 0x11) // rdtsc; out 10h,eax; mov eax,edx; out 11h,eax
		before := m.vp.TSC()
		low := binary.LittleEndian.Uint32(m.want(hcl.ExitPIO).Data)
		high := binary.LittleEndian.Uint32(m.want(hcl.ExitPIO).Data)
		after := m.vp.TSC()
		if guest := uint64(high)<<32 | uint64(low); guest < before || guest > after {
			m.t.Errorf("the guest read %d, Keel %d before and %d after", guest, before, after)
		}
	}},
	{"reset", func(m *machine) {
		power, err := m.vp.SpecialRegisters()
		if err != nil {
			m.t.Fatal(err)
		}
		m.start(0xfa, 0xf4)
		m.want(hcl.ExitHalt)
		if err := m.vp.Reset(); err != nil {
			m.t.Fatal(err)
		}
		r, err := m.vp.Registers()
		if err != nil {
			m.t.Fatal(err)
		}
		after, err := m.vp.SpecialRegisters()
		if err != nil {
			m.t.Fatal(err)
		}
		// AMD64 APM vol. 2 table 14-1.
		if r.RIP != 0xfff0 || r.RFLAGS != 2 || after.CS.Base != 0xffff0000 || after.CR0 != 0x60000010 {
			m.t.Errorf("after reset: RIP %#x, RFLAGS %#x, CS base %#x, CR0 %#x", r.RIP, r.RFLAGS, after.CS.Base, after.CR0)
		}
		if after != power {
			m.t.Errorf("after reset %+v, at power-on %+v", after, power)
		}
	}},
	{"registers keep their values", func(m *machine) {
		want := hcl.Registers{
			RAX: 1, RBX: 2, RCX: 3, RDX: 4, RSI: 5, RDI: 6, RSP: 7, RBP: 8,
			R8: 9, R9: 10, R10: 11, R11: 12, R12: 13, R13: 14, R14: 15, R15: 16, RIP: 17, RFLAGS: 2,
		}
		if err := m.vp.SetRegisters(&want); err != nil {
			m.t.Fatal(err)
		}
		if got, err := m.vp.Registers(); err != nil || got != want {
			m.t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}},
	{"exits do not allocate", func(m *machine) {
		m.start(0xe6, 0x10, 0xeb, 0xfc) // again: out 10h,al; jmp again
		m.vp.SetCR8(3)
		if n := testing.AllocsPerRun(200, func() {
			if e, err := m.vp.Run(); err != nil || e.Kind > hcl.ExitPIO {
				m.t.Fatalf("%v, %v", e.Kind, err)
			}
		}); n != 0 {
			m.t.Errorf("an exit allocates %v times", n)
		}
		if c := m.vp.CR8(); c != 3 {
			m.t.Errorf("CR8 is %d, want 3", c)
		}
		sys.DrainKick()
	}},
}
