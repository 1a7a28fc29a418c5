package apic

import (
	"fmt"
	"testing"

	"keel/hcl/abi/x86"
	"keel/vtl/irq"
)

// resetValues are those of SDM vol. 3, "Local APIC State After Power-Up or
// Reset", with APIC ID 3.
var resetValues = map[int]uint32{
	regID: 3 << 24, regVersion: 0x50014, regTPR: 0, regAPR: 0, regPPR: 0,
	regLDR: 0, regDFR: 0xFFFFFFFF, regSVR: 0xFF, regESR: 0,
	regICR: 0, regICRHigh: 0, regInitial: 0, regCurrent: 0, regDivide: 0,
	regISR: 0, regISR + 7: 0, regTMR: 0, regTMR + 7: 0, regIRR: 0, regIRR + 7: 0,
	regLVTTimer: 0x10000, regLVTTherm: 0x10000, regLVTPMI: 0x10000,
	regLVTLINT0: 0x10000, regLVTLINT1: 0x10000, regLVTError: 0x10000,
}

func TestResetValues(t *testing.T) {
	s := NewSet([]x86.APICID{0, 3}, &fakeEnv{})
	l := s.Local(1)
	verify := func(when string) {
		t.Helper()
		for reg, want := range resetValues {
			check(t, fmt.Sprintf("%s: register %#x", when, reg), l.read(reg), want)
		}
	}
	verify("power-on")
	check(t, "BSP's base", s.Local(0).APICBase(), uint64(0xFEE00900))
	check(t, "AP's base", l.APICBase(), uint64(0xFEE00800))

	dirty := func() {
		for reg := range regSelfIPI {
			l.write(reg, 0xFFFFFFFF)
		}
		l.write(regSVR, 0x1FF)
		for v := 16; v < 256; v += 7 {
			s.Deliver(Message{Dest: 3, Vector: irq.Vector(v), Level: v&1 != 0})
		}
		l.take()
	}
	dirty()
	l.Init()
	verify("INIT")
	dirty()
	l.SetAPICBase(0x12345000 | baseEnable)
	l.Reset()
	verify("reset")
	check(t, "base after reset", l.APICBase(), uint64(0xFEE00800))
}

// TestProcessorPriority follows SDM vol. 3, "Task and Processor Priorities".
func TestProcessorPriority(t *testing.T) {
	for _, c := range []struct {
		tpr, inService, ppr uint32
		blocked, allowed    irq.Vector
	}{
		{0x00, 0x00, 0x00, 0, 0x10},
		{0x2F, 0x00, 0x2F, 0x2F, 0x30},
		{0x20, 0x51, 0x50, 0x5F, 0x60},
		{0x57, 0x51, 0x57, 0x5F, 0x60},
		{0x61, 0x51, 0x61, 0x6F, 0x70},
		{0xF0, 0x00, 0xF0, 0xFF, 0},
	} {
		l, _ := newLocal()
		if c.inService != 0 {
			l.accept(irq.Vector(c.inService), false)
			l.Acknowledge()
		}
		l.write(regTPR, c.tpr)
		check(t, "PPR", l.read(regPPR), c.ppr)
		if c.blocked != 0 {
			l.accept(c.blocked, false)
			check(t, fmt.Sprintf("blocked at %#x", c.ppr), l.take(), 0)
			check(t, "still requested", l.requests(), c.blocked)
		}
		if c.allowed != 0 {
			l.accept(c.allowed, false)
			check(t, fmt.Sprintf("allowed at %#x", c.ppr), l.take(), c.allowed)
		}
	}
}

func TestAcknowledgeAndEOI(t *testing.T) {
	l, _ := newLocal()
	for _, v := range []irq.Vector{0x31, 0x92, 0x93, 0xEF} {
		l.accept(v, false)
	}
	check(t, "first", l.take(), 0xEF)
	check(t, "lower class while in service", l.take(), 0)
	l.write(regEOI, 0)
	check(t, "second", l.take(), 0x93)
	check(t, "ISR", l.read(regISR+4), 1<<19)
	check(t, "IRR", l.read(regIRR+4), 1<<18)
	check(t, "same class", l.take(), 0)
	l.accept(0xA0, false)
	check(t, "nested", l.take(), 0xA0)
	l.write(regEOI, 0)
	check(t, "ISR after inner EOI", l.read(regISR+4), 1<<19)
	l.write(regEOI, 0)
	check(t, "third", l.take(), 0x92)
	l.write(regEOI, 0)
	check(t, "fourth", l.take(), 0x31)
	l.write(regEOI, 0)
	l.write(regEOI, 0) // nothing in service
	check(t, "empty", l.take(), 0)
}

// TestTriggerMode checks that TMR follows the last accepted message and
// decides about the broadcast of the EOI.
func TestTriggerMode(t *testing.T) {
	s, _ := newSet(1)
	var ended []byte
	s.OnEOI(func(v irq.Vector) { ended = append(ended, byte(v)) })
	l := s.Local(0)
	for _, level := range []bool{true, false, true} {
		s.Deliver(Message{Vector: 0x61, Level: level})
		check(t, "TMR", l.read(regTMR+3) != 0, level)
		l.take()
		l.write(regEOI, 0)
	}
	check(t, "broadcasts", string(ended), "aa")
}

func TestSpuriousVector(t *testing.T) {
	l, _ := newLocal()
	l.write(regSVR, svrEnable|0xAF)
	check(t, "no request", l.Acknowledge(), 0xAF)
	l.accept(0x40, false)
	l.write(regTPR, 0x40)
	check(t, "masked by the TPR", l.Acknowledge(), 0xAF)
	check(t, "ISR", l.isr, bitmap{})
	check(t, "request stays", l.requests(), 0x40)
}

func TestCR8(t *testing.T) {
	l, _ := newLocal()
	l.write(regTPR, 0x25)
	l.SetTPR(2)
	check(t, "subclass of an unchanged class", l.TPR(), 0x25)
	l.SetTPR(0xF3)
	check(t, "TPR", l.TPR(), 0x30)
	check(t, "CR8", l.CR8(), 3)
	check(t, "register", l.read(regTPR), 0x30)
}

// TestSoftwareDisabled follows SDM vol. 3, "Local APIC State After It Has Been
// Software Disabled".
func TestSoftwareDisabled(t *testing.T) {
	s, _ := newSet(1)
	l := s.Local(0)
	l.accept(0x41, false)
	l.write(regLVTError, 0x50)
	l.write(regSVR, 0xFF)
	check(t, "LVT masked", l.read(regLVTError), lvtMasked|0x50)
	l.write(regLVTError, 0x51)
	check(t, "LVT stays masked", l.read(regLVTError), lvtMasked|0x51)
	check(t, "fixed refused", s.Deliver(Message{Vector: 0x80}), 0)
	check(t, "lowest priority refused", s.Deliver(Message{Mode: LowestPriority, Vector: 0x80}), 0)
	check(t, "held request", l.take(), 0x41)
	for _, mode := range []DeliveryMode{NMI, INIT, StartUp, SMI} {
		check(t, fmt.Sprintf("mode %d", mode), s.Deliver(Message{Mode: mode, Vector: 9}), 1)
	}
	check(t, "events", l.Pending(), Events{INIT: true, NMI: true, SIPI: true, SIPIVector: 9})
	check(t, "stats", s.Stats(), Stats{Unclaimed: 2, SMIs: 1})
}

func TestVirtualWire(t *testing.T) {
	s := NewSet([]x86.APICID{0, 1}, &fakeEnv{})
	s.Local(0).VirtualWire()
	s.SetLINT0(true)
	s.NMI()
	check(t, "BSP hears the 8259", s.Local(0).ExtINTPending(), true)
	check(t, "BSP hears NMI", s.Local(0).Pending().NMI, true)
	check(t, "AP hears the 8259", s.Local(1).ExtINTPending(), false)
	check(t, "AP hears NMI", s.Local(1).Pending().NMI, false)
}
