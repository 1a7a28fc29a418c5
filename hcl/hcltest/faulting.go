package hcltest

import (
	"testing"

	"keel/hcl"
	"keel/hcl/abi/x86"
)

// instead are the parts of the contract that differ where every access to a device is a
// raw fault: the substrate executes nothing of an instruction that accesses one. String
// port input is one, too: it writes to memory.
var instead = map[string]func(m *rawMachine){
	"MMIO": func(m *rawMachine) {
		m.reserve(mmioAt)
		m.program(mmioAt, 0xa1, 0x10, 0x00, 0xa3, 0x20, 0x00, 0xe7, 0x10, 0xf4) // mov ax,[10h]; mov [20h],ax; out 10h,ax; hlt
		m.wantFault(mmioAt, codeAt)
		m.goOn(codeAt+3, 0x1234)
		m.wantFault(mmioAt, codeAt+3)
		m.goOn(codeAt+6, 0x1234)
		if e := m.want(hcl.ExitPIO); e.Port != 0x10 || len(e.Data) != 2 || e.Data[0] != 0x34 || e.Data[1] != 0x12 {
			m.t.Errorf("%+v, want OUT 0x10, 0x1234", e)
		}
		m.want(hcl.ExitHalt)
	},
	"string port input": func(m *rawMachine) {
		m.start(0xbf, 0x00, 0x30, 0xb9, 0x04, 0x00, 0xba, 0x10, 0x00, 0xfc, 0xf3, 0x6c, 0x6d, 0xf4) // mov di,3000h; mov cx,4; mov dx,10h; cld; rep insb; insw; hlt
		for _, c := range []struct {
			rip    x86.GPA
			size   uint8
			di, cx uint64
			data   string
		}{{codeAt + 10, 1, 0x3000, 4, "keel"}, {codeAt + 12, 2, 0x3004, 0, "ok"}} {
			for range 2 { // again and again
				e, r := m.want(hcl.ExitMemoryFault), m.registers()
				if e.Port != 0x10 || e.Size != c.size || e.Write || e.RIP != uint64(c.rip) || r.RIP != e.RIP || r.RDI != c.di || r.RCX != c.cx {
					m.t.Fatalf("%+v, %+v, want INS of %d bytes at %#x, and nothing of it done", e, r, c.size, c.rip)
				}
			}
			r := m.registers() // Keel runs it
			copy(m.memory[c.di:], c.data)
			r.RIP, r.RDI, r.RCX = uint64(c.rip)+uint64(3-c.size), c.di+uint64(len(c.data)), 0
			if err := m.vp.SetRegisters(&r); err != nil {
				m.t.Fatal(err)
			}
		}
		m.want(hcl.ExitHalt)
		if got := string(m.memory[dataAt : dataAt+8]); got != "keelok\x00\x00" {
			m.t.Errorf("memory holds %q", got)
		}
	},
	"code outside of RAM": func(m *rawMachine) {
		m.reserve(mmioAt)
		m.start()
		s, err := m.vp.SpecialRegisters()
		if err != nil {
			m.t.Fatal(err)
		}
		s.CS.Base = uint64(mmioAt)
		m.set(&s, &hcl.Registers{RIP: 0, RFLAGS: 2})
		m.wantFault(mmioAt, 0)
	},
}

// RunFaulting runs the suite of Run against a backend whose guest's accesses to devices
// are raw faults.
func RunFaulting(t *testing.T, open func() (hcl.RawFaults, error)) {
	t.Helper()
	available(t, open)
	for _, c := range contract {
		check := instead[c.name]
		if check == nil {
			check = func(m *rawMachine) { c.check(m.machine) }
		}
		t.Run(c.name, func(t *testing.T) { onThread(t, func() { check(newRawMachine(t, open)) }) })
	}
}

// newRawMachine makes a machine with the capability of its partition.
func newRawMachine(tb testing.TB, open func() (hcl.RawFaults, error)) *rawMachine {
	tb.Helper()
	m := &rawMachine{}
	m.machine = newMachine(tb, func() (hcl.Partition, error) {
		var err error
		m.faults, err = open()
		return m.faults, err
	})
	return m
}

func (m *rawMachine) reserve(gpa x86.GPA) {
	m.t.Helper()
	if err := m.faults.Reserve(gpa, x86.PageSize); err != nil {
		m.t.Fatal(err)
	}
}

// goOn is what Keel does when it has executed an instruction itself.
func (m *rawMachine) goOn(rip x86.GPA, ax uint64) {
	m.t.Helper()
	r := m.registers()
	r.RIP, r.RAX = uint64(rip), ax
	if err := m.vp.SetRegisters(&r); err != nil {
		m.t.Fatal(err)
	}
}

// Guest is a machine for checks of a backend of its own: one VP in real mode, and 2 MiB
// of RAM at 0.
type Guest struct{ m *rawMachine }

// OnGuest calls check with a fresh machine, on the thread of its VP.
func OnGuest(t *testing.T, open func() (hcl.RawFaults, error), check func(g *Guest)) {
	t.Helper()
	onThread(t, func() { check(&Guest{newRawMachine(t, open)}) })
}

// VP is the machine's VP, and Memory its RAM.
func (g *Guest) VP() hcl.VP { return g.m.vp }

// Memory is the guest's RAM.
func (g *Guest) Memory() []byte { return g.m.memory }

// Program loads 16-bit code that runs at CodeAt, with a data segment that begins at
// data.
func (g *Guest) Program(data x86.GPA, code ...byte) { g.m.t.Helper(); g.m.program(data, code...) }

// Want runs to an exit, which must be of the kind.
func (g *Guest) Want(kind hcl.ExitKind) hcl.Exit { g.m.t.Helper(); return g.m.want(kind) }

// CodeAt is where programs lie.
const CodeAt = codeAt
