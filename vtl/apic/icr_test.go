package apic

import (
	"fmt"
	"testing"

	"keel/hcl/abi/x86"
	"keel/vtl/irq"
)

// TestICRShorthands follows SDM vol. 3, "Interrupt Command Register": VP 1 of
// four sends, in both modes.
func TestICRShorthands(t *testing.T) {
	for _, c := range []struct {
		name string
		dest uint32
		low  uint32
		want uint32
	}{
		{"physical", 2, 0x4041, 1 << 2},
		{"physical to itself", 1, 0x4041, 1 << 1},
		{"nobody", 9, 0x4041, 0},
		{"logical", 0xC, 0x4841, 0xC},
		{"self", 0, 0x44041, 1 << 1},
		{"all", 0, 0x84041, 0xF},
		{"others", 0, 0xC4041, 0xD},
		{"others, logical bit", 0, 0xC4841, 0xD},
		{"level trigger is ignored", 2, 0xC041, 1 << 2},
		{"lowest priority", 0x4, 0x4941, 1 << 2},
	} {
		s := logicalSet(0xFFFFFFFF, 1, 2, 4, 8)
		s.Local(1).write(regICRHigh, c.dest<<24)
		s.Local(1).write(regICR, c.low)
		check(t, c.name, receivers(s, 0x41), c.want)
		check(t, c.name+": status idle", s.Local(1).read(regICR), c.low)
		for i, l := range s.locals {
			check(t, c.name+": TMR", l.tmr.has(0x41), false)
			kicks := int(c.want >> i & 1)
			if i == 1 {
				kicks = 0 // the sender is not in the guest
			}
			check(t, c.name+": kicks", s.env.(*fakeEnv).kicks[i], kicks)
		}
		check(t, c.name+": sent", s.Local(1).Sent(), c.name != "self")
		check(t, c.name+": sent twice", s.Local(1).Sent(), false)

		s, _ = newSet(4)
		for _, l := range s.locals {
			l.x2(t)
		}
		v := uint64(c.dest)<<32 | uint64(c.low)
		check(t, c.name+": accepted", s.Local(1).WriteMSR(x86.X2APIC_MSR_FIRST+regICR, v), true)
		check(t, c.name+": x2APIC", receivers(s, 0x41), c.want)
		got, _ := s.Local(1).ReadMSR(x86.X2APIC_MSR_FIRST + regICR)
		check(t, c.name+": x2APIC readback", got, v)
	}
}

func TestICRBroadcastDestination(t *testing.T) {
	s, _ := newSet(3)
	s.Local(0).write(regICRHigh, 0xFF<<24)
	s.Local(0).write(regICR, 0x4041)
	check(t, "xAPIC FFh", receivers(s, 0x41), 7)
	s.Local(0).x2(t)
	s.Local(0).WriteMSR(x86.X2APIC_MSR_FIRST+regICR, 0xFF_00004042)
	check(t, "x2APIC FFh", receivers(s, 0x42), 0)
	s.Local(0).WriteMSR(x86.X2APIC_MSR_FIRST+regICR, 0xFFFFFFFF_00004043)
	check(t, "x2APIC broadcast", receivers(s, 0x43), 7)
}

func TestICRReservedBits(t *testing.T) {
	l, _ := newLocal()
	l.x2(t)
	for _, bit := range []int{13, 16, 17, 20, 31} {
		check(t, fmt.Sprintf("bit %d", bit), l.WriteMSR(x86.X2APIC_MSR_FIRST+regICR, 0x41|1<<bit), false)
	}
	check(t, "status bit", l.WriteMSR(x86.X2APIC_MSR_FIRST+regICR, 0x41|icrStatus), true)
}

func TestICRModes(t *testing.T) {
	for _, c := range []struct {
		name      string
		low       uint32
		want      Events
		esr       uint32
		smis      uint64
		malformed uint64
	}{
		{"SMI", 0x4200, Events{}, 0, 1, 0},
		{"remote read", 0x4300, Events{}, 0, 0, 1},
		{"NMI", 0x4402, Events{NMI: true}, 0, 0, 0},
		{"INIT", 0x4500, Events{INIT: true}, 0, 0, 0},
		{"INIT level assert", 0xC500, Events{INIT: true}, 0, 0, 0},
		{"INIT level de-assert", 0x8500, Events{}, 0, 0, 0},
		{"start-up", 0x4699, Events{SIPI: true, SIPIVector: 0x99}, 0, 0, 0},
		{"ExtINT", 0x4700, Events{}, 0, 0, 1},
		{"fixed, vector 15", 0x400F, Events{}, esrSendIllegal, 0, 0},
		{"lowest priority, vector 0", 0x4100, Events{}, esrSendIllegal, 0, 0},
	} {
		s, _ := newSet(2)
		l := s.Local(0)
		l.write(regICRHigh, 1<<24)
		l.write(regICR, c.low)
		check(t, c.name, s.Local(1).Pending(), c.want)
		l.write(regESR, 0)
		check(t, c.name+": ESR", l.read(regESR), c.esr)
		check(t, c.name+": SMIs", s.Stats().SMIs, c.smis)
		check(t, c.name+": malformed", s.Stats().Malformed, c.malformed)
	}
}

func TestSelfIPIRegister(t *testing.T) {
	l, env := newLocal()
	l.x2(t)
	const msr = x86.X2APIC_MSR_FIRST + regSelfIPI
	check(t, "write", l.WriteMSR(msr, 0x51), true)
	check(t, "vector", l.take(), 0x51)
	check(t, "kicks", env.kicks[0], 0)
	check(t, "reserved bits", l.WriteMSR(msr, 0x151), false)
	check(t, "illegal vector", l.WriteMSR(msr, 3), true)
	l.WriteMSR(x86.X2APIC_MSR_FIRST+regESR, 0)
	v, _ := l.ReadMSR(x86.X2APIC_MSR_FIRST + regESR)
	check(t, "ESR", v, esrSendIllegal)
	_, ok := l.ReadMSR(msr)
	check(t, "readable", ok, false)
}

func TestSelfIPIWhileDisabled(t *testing.T) {
	l, _ := newLocal()
	l.write(regSVR, 0xFF)
	l.write(regICR, 0x44041)
	check(t, "request", l.requests(), 0)
	check(t, "unclaimed", l.set.Stats().Unclaimed, 1)
}

func TestStartupSequence(t *testing.T) {
	s, env := newSet(2)
	l := s.Local(1)
	sipi := func(v irq.Vector) { s.Deliver(Message{Dest: 1, Mode: StartUp, Vector: v}) }
	initIPI := func() { s.Deliver(Message{Dest: 1, Mode: INIT}) }
	initIPI()
	sipi(0x10)
	sipi(0x20)
	check(t, "kicks until the VP looks", env.kicks[1], 1)
	check(t, "INIT, then the first SIPI", l.Pending(), Events{INIT: true, SIPI: true, SIPIVector: 0x10})
	check(t, "taken", l.Pending(), Events{})
	sipi(0x30)
	initIPI()
	check(t, "a SIPI before INIT is lost", l.Pending(), Events{INIT: true})
	initIPI()
	sipi(0)
	l.Pending()
	l.Init()
	sipi(0x40)
	check(t, "a SIPI after INIT", l.Pending(), Events{SIPI: true, SIPIVector: 0x40})
	check(t, "kicks", env.kicks[1], 4)
}

func TestKicks(t *testing.T) {
	s, env := newSet(1)
	l := s.Local(0)
	l.Pending()
	check(t, "idle", env.kicks[0], 0)
	s.Deliver(Message{Vector: 0x40})
	s.Deliver(Message{Vector: 0x50})
	check(t, "one kick for both", env.kicks[0], 1)
	l.Pending()
	s.Deliver(Message{Vector: 0x50})
	check(t, "no kick for a request that merges", env.kicks[0], 1)
	s.Deliver(Message{Vector: 0x51})
	check(t, "kick after the look", env.kicks[0], 2)
}

// TestICRInXAPICLayout: one layout in both modes (TLFS "Local APIC MSR Accesses").
func TestICRInXAPICLayout(t *testing.T) {
	for _, x2 := range []bool{false, true} {
		s, _ := newSet(4)
		if x2 {
			for _, l := range s.locals {
				l.x2(t)
			}
		}
		for i, c := range []struct {
			icr  uint64
			want uint32
		}{{2<<56 | 0x4041, 1 << 2}, {0xFF<<56 | 0x4042, 0xF}, {0xC4043, 0xD}} {
			l := s.Local(1)
			l.WriteICR(c.icr)
			check(t, fmt.Sprintf("x2APIC %v, %d: receivers", x2, i), receivers(s, irq.Vector(c.icr)), c.want)
			check(t, fmt.Sprintf("x2APIC %v, %d: value", x2, i), l.ICR(), c.icr)
		}
	}
}
