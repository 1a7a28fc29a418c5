package apic

import (
	"testing"

	"keel/vtl/irq"
)

func TestLINTModes(t *testing.T) {
	for _, c := range []struct {
		name    string
		entry   uint32
		vector  irq.Vector
		events  Events
		extINT  bool
		smis    uint64
		kicks   int
		latched bool // remote IRR
	}{
		{"fixed edge", 0x0041, 0x41, Events{}, false, 0, 1, false},
		{"fixed level", 0x8041, 0x41, Events{}, false, 0, 1, true},
		{"SMI", 0x0200, 0, Events{}, false, 1, 1, false},
		{"NMI", 0x0400, 0, Events{NMI: true}, false, 0, 1, false},
		{"NMI, level bit", 0x8400, 0, Events{NMI: true}, false, 0, 1, false},
		{"INIT", 0x0500, 0, Events{INIT: true}, false, 0, 1, false},
		{"ExtINT", 0x0700, 0, Events{}, true, 0, 1, false},
		{"masked", 0x10041, 0, Events{}, false, 0, 0, false},
		{"masked ExtINT", 0x10700, 0, Events{}, false, 0, 0, false},
		{"reserved", 0x0341, 0, Events{}, false, 0, 1, false},
	} {
		s, env := newSet(1)
		l := s.Local(0)
		l.write(regLVTLINT0, c.entry)
		s.SetLINT0(true)
		s.SetLINT0(true)
		check(t, c.name+": ExtINT", l.ExtINTPending(), c.extINT)
		check(t, c.name+": vector", l.take(), c.vector)
		check(t, c.name+": events", l.Pending(), c.events)
		check(t, c.name+": SMIs", s.Stats().SMIs, c.smis)
		check(t, c.name+": kicks", env.kicks[0], c.kicks)
		check(t, c.name+": remote IRR", l.read(regLVTLINT0)&lvtRemoteIRR != 0, c.latched)
		s.SetLINT0(false)
		check(t, c.name+": ExtINT after fall", l.ExtINTPending(), false)
	}
}

func TestLevelLINT(t *testing.T) {
	s, _ := newSet(1)
	l := s.Local(0)
	s.SetLINT0(true)
	l.write(regLVTLINT0, lvtLevel|0x41)
	check(t, "unmasking finds the pin high", l.take(), 0x41)
	check(t, "one request at a time", l.requests(), 0)
	l.write(regEOI, 0)
	check(t, "still high", l.take(), 0x41)
	s.SetLINT0(false)
	l.write(regEOI, 0)
	check(t, "low", l.take(), 0)
	check(t, "remote IRR", l.read(regLVTLINT0), lvtLevel|0x41)
}

func TestPlatformNMI(t *testing.T) {
	s, env := newSet(3)
	s.Local(0).write(regLVTLINT1, uint32(NMI)<<8)
	s.Local(2).write(regLVTLINT1, uint32(NMI)<<8|lvtMasked)
	s.NMI()
	for i, want := range []bool{true, false, false} {
		check(t, "NMI", s.Local(i).Pending().NMI, want)
	}
	check(t, "kicks", env.kicks, [16]int{1})
	s.NMI()
	check(t, "every pulse is an edge", s.Local(0).Pending().NMI, true)
}

func TestExtINTThroughIOAPIC(t *testing.T) {
	s, env := newSet(2)
	l := s.Local(1)
	check(t, "accepted", s.Deliver(Message{Dest: 1, Mode: ExtINT}), 1)
	check(t, "the 8259 has nothing", l.ExtINTPending(), false)
	s.SetLINT0(true)
	check(t, "the 8259 asks", l.ExtINTPending(), true)
	check(t, "not for others", s.Local(0).ExtINTPending(), false)
	l.Pending()
	s.SetLINT0(false)
	s.SetLINT0(true)
	check(t, "the request ended", l.ExtINTPending(), false)
	s.Deliver(Message{Dest: 1, Mode: ExtINT})
	check(t, "wire first", l.ExtINTPending(), true)
	check(t, "kicks", env.kicks[1], 2)

	s, env = newSet(1)
	s.Deliver(Message{Mode: ExtINT})
	s.Local(0).Pending()
	s.SetLINT0(true)
	check(t, "kicked when the wire follows the message", env.kicks[0], 2)
}

func TestInitEndsPinRequests(t *testing.T) {
	s, _ := newSet(1)
	l := s.Local(0)
	l.write(regLVTLINT0, lvtLevel|0x41)
	s.SetLINT0(true)
	s.Deliver(Message{Mode: ExtINT})
	l.Init()
	check(t, "ExtINT", l.ExtINTPending(), false)
	l.write(regSVR, 0x1FF)
	l.write(regLVTLINT0, lvtLevel|0x42)
	check(t, "the wire is still high", l.take(), 0x42)
}

// TestErrorStatus follows SDM vol. 3, "Error Handling".
func TestErrorStatus(t *testing.T) {
	s, env := newSet(2)
	l := s.Local(0)
	l.write(regLVTError, 0xFE)
	l.read(0x04)
	check(t, "error interrupt", l.take(), 0xFE)
	l.write(regEOI, 0)
	check(t, "ESR before a write", l.read(regESR), 0)
	l.write(regICR, 0x4000)
	check(t, "no second interrupt until rearmed", l.take(), 0)
	l.write(regESR, 0xFFFF)
	check(t, "ESR", l.read(regESR), esrIllegalRegister|esrSendIllegal)
	check(t, "reading keeps it", l.read(regESR), esrIllegalRegister|esrSendIllegal)
	s.Deliver(Message{Vector: 5})
	check(t, "rearmed", l.take(), 0xFE)
	check(t, "kicked by the sender", env.kicks[0], 1)
	l.write(regESR, 0)
	check(t, "ESR", l.read(regESR), esrReceiveIllegal)
	l.write(regESR, 0)
	check(t, "cleared", l.read(regESR), 0)
}

func TestErrorEntryWithIllegalVector(t *testing.T) {
	l, _ := newLocal()
	l.write(regLVTError, 0x05)
	l.read(0x04)
	check(t, "request", l.requests(), 0)
	l.write(regESR, 0)
	check(t, "ESR", l.read(regESR), esrIllegalRegister|esrReceiveIllegal)
}
