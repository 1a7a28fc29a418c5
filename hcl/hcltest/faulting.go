package hcltest

import (
	"slices"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/x86"
)

// instead are the parts of the contract that differ where every access to a device is a
// raw fault: the substrate executes nothing of an instruction that accesses one.
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
// are raw faults, without the checks that are named.
func RunFaulting(t *testing.T, open func() (hcl.RawFaults, error), without ...string) {
	t.Helper()
	available(t, open)
	for _, c := range contract {
		if slices.Contains(without, c.name) {
			continue
		}
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
