package apic

import (
	"fmt"
	"testing"

	"keel/hcl/abi/x86"
	"keel/vtl/irq"
)

// logicalSet returns eight local APICs with the LDRs given and one DFR.
func logicalSet(dfr uint32, ldrs ...uint32) *Set {
	s, _ := newSet(len(ldrs))
	for i, ldr := range ldrs {
		s.Local(i).write(regDFR, dfr)
		s.Local(i).write(regLDR, ldr<<24)
	}
	return s
}

// receivers returns which VPs have the vector requested, one bit each.
func receivers(s *Set, v irq.Vector) (mask uint32) {
	for i, l := range s.locals {
		if l.irr.has(v) {
			mask |= 1 << i
		}
	}
	return mask
}

func TestXAPICLogicalDestinations(t *testing.T) {
	flat := []uint32{0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80}
	cluster := []uint32{0x01, 0x02, 0x04, 0x08, 0x11, 0x12, 0x14, 0x21}
	for _, c := range []struct {
		dfr  uint32
		ldrs []uint32
		dest uint32
		want uint32
	}{
		{0xFFFFFFFF, flat, 0x01, 0x01},
		{0xFFFFFFFF, flat, 0xA4, 0xA4},
		{0xFFFFFFFF, flat, 0x00, 0x00},
		{0xFFFFFFFF, flat, Broadcast, 0xFF},
		{0xFFFFFFFF, flat, 0x101, 0x00},
		{0x0FFFFFFF, cluster, 0x03, 0x03},
		{0x0FFFFFFF, cluster, 0x1F, 0x70},
		{0x0FFFFFFF, cluster, 0x21, 0x80},
		{0x0FFFFFFF, cluster, 0x22, 0x00},
		{0x0FFFFFFF, cluster, 0x31, 0x00},
		{0x0FFFFFFF, cluster, Broadcast, 0xFF},
		{0x5FFFFFFF, flat, 0xFF, 0x00}, // no such format
	} {
		s := logicalSet(c.dfr, c.ldrs...)
		n := s.Deliver(Message{Dest: c.dest, Logical: true, Vector: 0x44})
		name := fmt.Sprintf("DFR %#x, destination %#x", c.dfr, c.dest)
		check(t, name, receivers(s, 0x44), c.want)
		check(t, name+": unclaimed", s.Stats().Unclaimed == 1, n == 0)
	}
}

func TestX2APICDestinations(t *testing.T) {
	ids := []x86.APICID{0, 1, 15, 16, 17, 0xFF, 0x101}
	for _, c := range []struct {
		dest    uint32
		logical bool
		want    uint32
	}{
		{0x0000_0003, true, 0x03},
		{0x0000_8001, true, 0x05},
		{0x0001_0003, true, 0x18},
		{0x0001_0004, true, 0},
		{0x000F_8000, true, 0x20},
		{0x0010_0002, true, 0x40},
		{Broadcast, true, 0x7F},
		{Broadcast, false, 0x7F},
		{0x10, false, 0x08},
		{0xFF, false, 0x20},
		{0x101, false, 0x40},
		{2, false, 0},
	} {
		s := NewSet(ids, &fakeEnv{})
		for _, l := range s.locals {
			l.write(regSVR, 0x1FF)
			l.x2(t)
		}
		s.Deliver(Message{Dest: c.dest, Logical: c.logical, Vector: 0x44})
		check(t, fmt.Sprintf("%#x logical %v", c.dest, c.logical), receivers(s, 0x44), c.want)
	}
}

func TestLowestPriority(t *testing.T) {
	s := logicalSet(0xFFFFFFFF, 1, 2, 4, 8)
	for i, tpr := range []uint32{0x40, 0x10, 0x10, 0x30} {
		s.Local(i).write(regTPR, tpr)
	}
	m := Message{Dest: 0x0F, Logical: true, Mode: LowestPriority}
	seen := map[uint32]int{}
	for v := irq.Vector(0x80); v < 0x90; v++ {
		m.Vector = v
		check(t, "accepted", s.Deliver(m), 1)
		seen[receivers(s, v)]++
	}
	check(t, "idle VPs in use", len(seen), 2)
	if seen[2] == 0 || seen[4] == 0 {
		t.Errorf("receivers = %v, want VPs 1 and 2", seen)
	}
	s.Local(1).write(regSVR, 0xFF)
	s.Local(2).write(regSVR, 0xFF)
	m.Vector = 0xA0
	s.Deliver(m)
	check(t, "disabled ones are no candidates", receivers(s, 0xA0), 8)
	m.Dest = 0x10
	check(t, "nobody", s.Deliver(m), 0)
}

func TestReservedMessages(t *testing.T) {
	s, _ := newSet(2)
	for _, mode := range []DeliveryMode{3, 8, 255} {
		check(t, "accepted", s.Deliver(Message{Dest: Broadcast, Mode: mode, Vector: 0x30}), 0)
	}
	check(t, "malformed", s.Stats().Malformed, 3)
}

func TestMSI(t *testing.T) {
	type want struct {
		mask   uint32
		vector irq.Vector
		level  bool
	}
	for _, c := range []struct {
		name    string
		address uint64
		data    uint32
		want    want
	}{
		{"physical", 0xFEE02000, 0x4041, want{1 << 2, 0x41, false}},
		{"physical broadcast", 0xFEEFF000, 0x41, want{0xF, 0x41, false}},
		{"logical", 0xFEE06004, 0x41, want{0x6, 0x41, false}},
		{"logical, redirected", 0xFEE0800C, 0x41, want{0x8, 0x41, false}},
		{"lowest priority", 0xFEE04004, 0x141, want{0x4, 0x41, false}},
		{"level", 0xFEE00000, 0xC041, want{1, 0x41, true}},
		{"level, de-asserted", 0xFEE00000, 0x8041, want{}},
		{"extended ID", 0xFEE00020, 0x41, want{}},
		{"extended ID is no broadcast", 0xFEEFF020, 0x41, want{}},
		{"outside the window", 0xFED00000, 0x41, want{}},
		{"above 4 GiB", 0x1_FEE00000, 0x41, want{}},
		{"start-up", 0xFEE00000, 0x641, want{}},
		{"reserved mode", 0xFEE00000, 0x341, want{}},
	} {
		s := logicalSet(0xFFFFFFFF, 1, 2, 4, 8)
		s.SignalMSI(c.address, c.data)
		check(t, c.name, receivers(s, 0x41), c.want.mask)
		if c.want.level {
			check(t, c.name+": TMR", s.Local(0).tmr.has(0x41), true)
		}
		for i, l := range s.locals {
			check(t, c.name+": events", l.Pending(), Events{})
			check(t, c.name+": kicked", s.env.(*fakeEnv).kicks[i], int(c.want.mask>>i&1))
		}
	}
	s, _ := newSet(2)
	s.SignalMSI(0xFEE01000, 0x400)
	s.SignalMSI(0xFEE01000, 0x200)
	s.SignalMSI(0xFEE01000, 0x500)
	check(t, "NMI and INIT", s.Local(1).Pending(), Events{NMI: true, INIT: true})
	check(t, "SMI", s.Stats().SMIs, 1)
}

func TestMSIExtendedDestination(t *testing.T) {
	s := NewSet([]x86.APICID{0, 0x1234}, &fakeEnv{})
	s.Local(1).write(regSVR, 0x1FF)
	s.Local(1).x2(t)
	s.SignalMSI(0xFEE00000|0x34<<12|0x12<<5, 0x55)
	check(t, "receiver", receivers(s, 0x55), 2)
}
