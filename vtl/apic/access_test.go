package apic

import (
	"fmt"
	"testing"

	"keel/hcl/abi/x86"
)

// registerTable says what a write of all ones reads back as, in the layouts of
// SDM vol. 3. The APIC is enabled by software.
var registerTable = []struct {
	name     string
	reg      int
	readback uint32
	x2Write  uint64 // widest value that the MSR accepts
	x2Read   bool
	x2Wr     bool
}{
	{"ID", regID, 0, 0, true, false},
	{"version", regVersion, 0x50014, 0, true, false},
	{"TPR", regTPR, 0xFF, 0xFF, true, true},
	{"APR", regAPR, 0, 0, false, false},
	{"PPR", regPPR, 0, 0, true, false},
	{"EOI", regEOI, 0, 0, false, true},
	{"RRD", regRRD, 0, 0, false, false},
	{"LDR", regLDR, 0xFF000000, 0, true, false},
	{"DFR", regDFR, 0xFFFFFFFF, 0, false, false},
	{"SVR", regSVR, 0x3FF, 0x3FF, true, true},
	{"ISR", regISR, 0, 0, true, false},
	{"TMR", regTMR + 3, 0, 0, true, false},
	{"IRR", regIRR + 7, 0, 0, true, false},
	{"ESR", regESR, 0, 0, true, true},
	{"ICR high", regICRHigh, 0xFF000000, 0, false, false},
	{"timer", regLVTTimer, 0x700FF, 0x710FF, true, true},
	{"thermal", regLVTTherm, 0x107FF, 0x117FF, true, true},
	{"PMI", regLVTPMI, 0x107FF, 0x117FF, true, true},
	{"LINT0", regLVTLINT0, 0x1A7FF, 0x1F7FF, true, true},
	{"LINT1", regLVTLINT1, 0x1A7FF, 0x1F7FF, true, true},
	{"error", regLVTError, 0x100FF, 0x110FF, true, true},
	{"current", regCurrent, 0, 0, true, false},
	{"divide", regDivide, 0xB, 0xB, true, true},
}

func TestRegisterReadback(t *testing.T) {
	for _, c := range registerTable {
		l, _ := newLocal()
		l.write(c.reg, 0xFFFFFFFF)
		check(t, c.name, l.read(c.reg), c.readback)
		check(t, c.name+" refused", l.set.Stats().Refused, 0)
	}
}

func TestReservedRegisters(t *testing.T) {
	known := map[int]bool{regICR: true, regInitial: true}
	for _, c := range registerTable {
		known[c.reg] = true
	}
	for reg := range 0x100 {
		if known[reg] || reg >= regISR && reg < regESR {
			continue
		}
		l, _ := newLocal()
		check(t, fmt.Sprintf("read of %#x", reg), l.read(reg), 0)
		l.write(regESR, 0)
		check(t, "ESR after read", l.read(regESR), esrIllegalRegister)
		l.write(reg, 0xFFFFFFFF)
		l.write(regESR, 0)
		check(t, fmt.Sprintf("ESR after write of %#x", reg), l.read(regESR), esrIllegalRegister)
	}
}

func TestOddAccesses(t *testing.T) {
	l, _ := newLocal()
	l.write(regLVTError, 0x100CD)
	for _, c := range []struct {
		offset uint64
		size   int
		want   uint64
	}{
		{0x370, 1, 0xCD},
		{0x370, 2, 0xCD},
		{0x370, 8, 0x100CD},
		{0x371, 1, 0},
		{0x372, 1, 1},
		{0x372, 4, 1},
		{0x374, 4, 0},
		{0x37F, 1, 0},
		{0xFFC, 4, 0},
		{1 << 40, 8, 0},
	} {
		check(t, fmt.Sprintf("read %d at %#x", c.size, c.offset), l.ReadMMIO(c.offset, c.size), c.want)
		if c.size != 8 || c.offset > 0x400 {
			l.WriteMMIO(c.offset, min(c.size, 2), 0x55)
		}
	}
	check(t, "torn writes", l.read(regLVTError), 0x100CD)
	l.WriteMMIO(0x370, 8, 0xFFFFFFFF_00010042)
	check(t, "wide write", l.read(regLVTError), 0x10042)
}

func TestX2APICRegisters(t *testing.T) {
	for _, c := range registerTable {
		l, _ := newLocal()
		msr := uint32(x86.X2APIC_MSR_FIRST + c.reg)
		if _, ok := l.ReadMSR(msr); ok {
			t.Errorf("%s: readable in xAPIC mode", c.name)
		}
		check(t, c.name+" writable in xAPIC mode", l.WriteMSR(msr, 0), false)
		l.x2(t)
		_, ok := l.ReadMSR(msr)
		check(t, c.name+" readable", ok, c.x2Read)
		check(t, c.name+" writable", l.WriteMSR(msr, 0), c.x2Wr)
		check(t, c.name+" takes defined bits", l.WriteMSR(msr, c.x2Write), c.x2Wr)
		for bit := range 64 {
			if v := uint64(1) << bit; v&c.x2Write == 0 && l.WriteMSR(msr, v) {
				t.Errorf("%s: reserved bit %d accepted", c.name, bit)
			}
		}
	}
}

func TestX2APICMSRSpace(t *testing.T) {
	known := map[uint32]bool{regICR: true, regInitial: true, regSelfIPI: true}
	for _, c := range registerTable {
		known[uint32(c.reg)] = true
	}
	l, _ := newLocal()
	l.x2(t)
	for reg := range uint32(0x100) {
		if known[reg] || reg >= regISR && reg < regESR {
			continue
		}
		if _, ok := l.ReadMSR(x86.X2APIC_MSR_FIRST + reg); ok {
			t.Errorf("reserved MSR %#x readable", reg)
		}
		check(t, fmt.Sprintf("reserved MSR %#x writable", reg), l.WriteMSR(x86.X2APIC_MSR_FIRST+reg, 0), false)
	}
	check(t, "page reads in x2APIC mode", l.ReadMMIO(0x30, 4), ^uint64(0))
	l.WriteMMIO(regTPR<<4, 4, 0xFF)
	check(t, "page writes in x2APIC mode", l.TPR(), 0)
	v, ok := l.ReadMSR(x86.X2APIC_MSR_FIRST + regVersion)
	check(t, "version", v, 0x50014)
	check(t, "version readable", ok, true)
}

func TestX2APICIdentity(t *testing.T) {
	for _, c := range []struct{ id, ldr uint64 }{
		{0, 0x1}, {5, 0x20}, {15, 0x8000}, {0x10, 0x10001}, {0x123, 0x120008},
	} {
		s := NewSet([]x86.APICID{x86.APICID(c.id)}, &fakeEnv{})
		l := s.Local(0)
		l.x2(t)
		id, _ := l.ReadMSR(x86.X2APIC_MSR_FIRST + regID)
		ldr, _ := l.ReadMSR(x86.X2APIC_MSR_FIRST + regLDR)
		check(t, "ID", id, c.id)
		check(t, "LDR", ldr, c.ldr)
	}
}
