package hcltest

import (
	"bytes"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/x86"
)

// rawAt is a page that the raw programs are denied, and deviceAt one without memory.
const (
	rawAt    = x86.GPA(0x5000)
	deviceAt = x86.GPA(0xfed40000)
)

// rawMachine is a machine whose partition can deny pages.
type rawMachine struct {
	*machine
	faults hcl.RawFaults
}

// rawContract lists what every backend with raw faults must do.
var rawContract = []struct {
	name  string
	check func(m *rawMachine)
}{
	{"read", func(m *rawMachine) {
		m.memory[rawAt+0x10], m.memory[rawAt+0x11] = 0x34, 0x12
		m.deny()
		m.program(rawAt, 0xa1, 0x10, 0x00, 0xe7, 0x10, 0xf4) // mov ax,[10h]; out 10h,ax; hlt
		m.wantFault(rawAt, codeAt)
		m.wantFault(rawAt, codeAt) // again and again
		m.allow()
		if e := m.want(hcl.ExitPIO); !bytes.Equal(e.Data, []byte{0x34, 0x12}) {
			m.t.Errorf("the guest read %x", e.Data)
		}
		m.want(hcl.ExitHalt)
	}},
	{"write", func(m *rawMachine) {
		m.deny()
		m.program(rawAt, 0xc7, 0x06, 0x20, 0x00, 0x78, 0x56, 0xf4) // mov word [20h],5678h; hlt
		m.wantFault(rawAt, codeAt)
		if got := m.memory[rawAt+0x20 : rawAt+0x22]; !bytes.Equal(got, []byte{0, 0}) {
			m.t.Errorf("the denied write left %x", got)
		}
		m.allow()
		m.want(hcl.ExitHalt)
		if got := m.memory[rawAt+0x20 : rawAt+0x22]; !bytes.Equal(got, []byte{0x78, 0x56}) {
			m.t.Errorf("the write left %x", got)
		}
	}},
	{"read and write in one", func(m *rawMachine) {
		m.memory[rawAt] = 1
		m.deny()
		m.program(rawAt, 0xfe, 0x06, 0x00, 0x00, 0xf4) // inc byte [0]; hlt
		m.wantFault(rawAt, codeAt)
		m.allow()
		m.want(hcl.ExitHalt)
		if m.memory[rawAt] != 2 {
			m.t.Errorf("1 became %d", m.memory[rawAt])
		}
	}},
	{"code", func(m *rawMachine) {
		copy(m.memory[rawAt:], []byte{0xe6, 0x10, 0xf4}) // out 10h,al; hlt
		m.deny()
		m.program(0, 0xea, byte(rawAt&0xff), byte(rawAt>>8), 0, 0) // jmp 0:rawAt
		m.wantFault(rawAt, rawAt)
		m.allow()
		m.want(hcl.ExitPIO)
		m.want(hcl.ExitHalt)
	}},
	{"string across the border", func(m *rawMachine) {
		copy(m.memory[rawAt-2:], []byte{1, 2, 3, 4})
		m.deny()
		from, to := uint16(rawAt-2), uint16(dataAt)
		// mov si,from; mov di,to; mov cx,4; cld; rep movsb; hlt
		m.program(0, 0xbe, byte(from), byte(from>>8), 0xbf, byte(to), byte(to>>8), 0xb9, 4, 0, 0xfc, 0xf3, 0xa4, 0xf4)
		m.wantFault(rawAt, codeAt+10)
		if r := m.registers(); r.RCX&0xffff != 2 || !bytes.Equal(m.memory[dataAt:dataAt+4], []byte{1, 2, 0, 0}) {
			m.t.Errorf("CX is %d, memory %x", r.RCX, m.memory[dataAt:dataAt+4])
		}
		m.allow()
		m.want(hcl.ExitHalt)
		if !bytes.Equal(m.memory[dataAt:dataAt+4], []byte{1, 2, 3, 4}) {
			m.t.Errorf("memory %x", m.memory[dataAt:dataAt+4])
		}
	}},
	{"Keel goes on behind the instruction", func(m *rawMachine) {
		m.deny()
		m.program(rawAt, 0xa1, 0x10, 0x00, 0xe7, 0x10, 0xf4)
		m.wantFault(rawAt, codeAt)
		m.goOn(codeAt+3, 0xabcd)
		if e := m.want(hcl.ExitPIO); !bytes.Equal(e.Data, []byte{0xcd, 0xab}) {
			m.t.Errorf("the guest has %x", e.Data)
		}
	}},
	{"device without memory", func(m *rawMachine) {
		if err := m.faults.Reserve(deviceAt, x86.PageSize); err != nil {
			m.t.Fatal(err)
		}
		m.program(deviceAt, 0xa1, 0x10, 0x00, 0xf4) // mov ax,[10h]; hlt
		m.wantFault(deviceAt, codeAt)
		m.program(deviceAt, 0xa3, 0x10, 0x00, 0xf4) // mov [10h],ax; hlt
		m.wantFault(deviceAt, codeAt)
	}},
	{"interrupt after a fault", func(m *rawMachine) {
		m.deny()
		m.program(rawAt, 0xfb, 0x90, 0xa1, 0x10, 0x00, 0xf4) // sti; nop; mov ax,[10h]; hlt
		m.wantFault(rawAt, codeAt+2)
		if !m.vp.CanInject() {
			m.t.Fatal("the guest takes no interrupt")
		}
		if err := m.vp.Inject(0x42); err != nil {
			m.t.Fatal(err)
		}
		m.wantOut(0x70, 0x42)
		m.wantFault(rawAt, codeAt+2)
	}},
	{"ranges that are none", func(m *rawMachine) {
		for _, r := range []struct {
			gpa    x86.GPA
			length uint64
		}{{rawAt + 1, x86.PageSize}, {rawAt, 1}, {rawAt, 0}, {^x86.GPA(0xfff), 2 * x86.PageSize}} {
			if m.faults.Deny(r.gpa, r.length) == nil || m.faults.Allow(r.gpa, r.length) == nil || m.faults.Reserve(r.gpa, r.length) == nil {
				m.t.Errorf("%#x+%#x was taken", r.gpa, r.length)
			}
		}
	}},
}

// RunRaw runs the suite of raw faults against a backend, as Run does.
func RunRaw(t *testing.T, open func() (hcl.RawFaults, error)) {
	t.Helper()
	available(t, open)
	for _, c := range rawContract {
		t.Run("raw "+c.name, func(t *testing.T) {
			onThread(t, func() { c.check(newRawMachine(t, open)) })
		})
	}
}

func (m *rawMachine) deny() {
	m.t.Helper()
	if err := m.faults.Deny(rawAt, x86.PageSize); err != nil {
		m.t.Fatal(err)
	}
}

func (m *rawMachine) allow() {
	m.t.Helper()
	if err := m.faults.Allow(rawAt, x86.PageSize); err != nil {
		m.t.Fatal(err)
	}
}

// program loads a real-mode program whose data segment lies somewhere.
func (m *rawMachine) program(data x86.GPA, code ...byte) {
	m.t.Helper()
	m.start(code...)
	s, err := m.vp.SpecialRegisters()
	if err != nil {
		m.t.Fatal(err)
	}
	s.DS.Base = uint64(data)
	m.set(&s, &hcl.Registers{RIP: uint64(codeAt), RFLAGS: 2, RSP: 0x8000})
}

func (m *rawMachine) registers() hcl.Registers {
	m.t.Helper()
	r, err := m.vp.Registers()
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// wantFault runs to a fault and checks where.
func (m *rawMachine) wantFault(page, rip x86.GPA) {
	m.t.Helper()
	e := m.want(hcl.ExitMemoryFault)
	if e.GPA&^0xfff != page || e.RIP != uint64(rip) || m.registers().RIP != uint64(rip) {
		m.t.Fatalf("%+v, registers at %#x: want a fault at %#x by the instruction at %#x", e, m.registers().RIP, page, rip)
	}
}
