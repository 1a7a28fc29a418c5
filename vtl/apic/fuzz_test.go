package apic

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"keel/hcl/abi/x86"
	"keel/vtl/irq"
)

// opSize is the length of one coded operation: what, on which VP, and six
// bytes of operands.
const opSize = 8

// play executes a stream of coded operations on a machine of three VPs and
// checks the invariants after each. Operations beyond the bound are ignored.
func play(tb testing.TB, stream []byte) {
	tb.Helper()
	env := &fakeEnv{}
	s := NewSet([]x86.APICID{0, 1, 0x105}, env)
	io := NewIOAPIC(s)
	for n := 0; len(stream) >= opSize && n < 4096; n++ {
		operate(s, io, env, stream[:opSize])
		stream = stream[opSize:]
		for _, l := range s.locals {
			verify(tb, l)
		}
		verifyIOAPIC(tb, io)
		if tb.Failed() {
			tb.Fatalf("after operation %d", n)
		}
	}
}

// operate executes one coded operation.
func operate(s *Set, io *IOAPIC, env *fakeEnv, op []byte) {
	l := s.Local(int(op[1]) % len(s.locals))
	a, b := uint64(binary.LittleEndian.Uint16(op[2:])), uint64(binary.LittleEndian.Uint32(op[4:]))
	sizes := [4]int{1, 2, 4, 8}
	switch op[0] % 19 {
	case 0:
		l.ReadMMIO(a&0xFFF, sizes[a>>12&3])
	case 1:
		l.WriteMMIO(a&0xFFF, sizes[a>>12&3], b)
	case 2:
		l.WriteMMIO(a&0x3F<<4, 4, b)
	case 3:
		l.ReadMSR(x86.X2APIC_MSR_FIRST + uint32(a))
	case 4:
		l.WriteMSR(x86.X2APIC_MSR_FIRST+uint32(a&0x3F), b|a>>6<<32)
	case 5:
		l.SetAPICBase(b<<8 | a&0x300)
	case 6:
		l.SetTSCDeadline(b<<(a&63) | a)
		l.TSCDeadline()
	case 7:
		l.SetTPR(uint8(a))
	case 8:
		l.Pending()
	case 9:
		l.take()
	case 10:
		l.Acknowledge()
	case 11:
		env.now += int64(b) << (a & 15)
		l.CheckTimer(env.now)
	case 12:
		s.SignalMSI(0xFEE00000|b&0xFFFFF, uint32(a))
	case 13:
		s.Deliver(Message{Dest: uint32(b), Logical: a&1 != 0, Level: a&2 != 0, Mode: DeliveryMode(a >> 2 & 0xF), Vector: irq.Vector(a >> 8)})
	case 14:
		s.SetLINT0(a&1 != 0)
	case 15:
		s.NMI()
	case 16:
		io.WriteMMIO(a&0xFF, sizes[a>>8&3], b)
		io.ReadMMIO(a>>8, sizes[a&3])
	case 17:
		io.write(int(a&0x3F), uint32(b))
	case 18:
		io.Line(irq.GSI(a)).SetLevel(b&1 != 0)
		if b&0xFF00 == 0 {
			l.Init()
		}
	}
}

// verify checks what must hold between the registers of a local APIC.
func verify(tb testing.TB, l *Local) {
	tb.Helper()
	highest, inService := l.isr.highest()
	check(tb, "vectors below 16 in ISR", l.isr[0]&0xFFFF, 0)
	check(tb, "vectors below 16 in IRR", l.irr[0].Load()&0xFFFF, 0)
	ppr, tpr := l.ppr(), l.tpr.Load()
	class := tpr >> 4
	if inService {
		class = max(class, uint32(highest)>>4)
	}
	check(tb, "PPR class", ppr>>4, class)
	if v, ok := l.NextVector(); ok {
		check(tb, "next vector above the PPR", uint32(v)>>4 > ppr>>4, true)
		check(tb, "next vector is requested", l.irr.has(v), true)
	} else if v := l.requests(); l.base&baseEnable != 0 && uint32(v)>>4 > ppr>>4 {
		tb.Errorf("vector %#x withheld at PPR %#x", v, ppr)
	}
	modes := l.base & (baseEnable | baseX2)
	check(tb, "mode is legal", modes != baseX2, true)
	if l.svr&svrEnable == 0 {
		for i := range l.lvt {
			check(tb, "masked while disabled", l.lvt[i].Load()&lvtMasked != 0, true)
		}
	}
	tm, now := &l.timer, l.set.env.Now()
	if tm.period != 0 {
		check(tb, "count within the initial count", l.currentCount() <= tm.initial, true)
		check(tb, "counting timers expire", tm.deadline > tm.start, true)
	}
	check(tb, "deadline in the past or future, not negative", l.TimerDeadline() >= 0, true)
	l.CheckTimer(now)
	if d := l.timer.deadline; d != 0 && d <= now {
		tb.Errorf("deadline %d not served at %d", d, now)
	}
}

// verifyIOAPIC checks what must hold of redirection entries.
func verifyIOAPIC(tb testing.TB, io *IOAPIC) {
	tb.Helper()
	for _, e := range io.table {
		check(tb, "undefined bits", e&^(rteWritable|rteRemoteIRR), 0)
		if e&rteRemoteIRR != 0 {
			check(tb, "remote IRR of a level pin", levelEntry(e), true)
		}
	}
}

func TestRandomOperations(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		stream := make([]byte, 400*opSize)
		for i := range stream {
			stream[i] = byte(r.Uint32())
		}
		// Half of the streams start with all APICs enabled and stay away from
		// what disables them again.
		if seed&1 == 0 {
			for vp := range 3 {
				copy(stream[vp*opSize:], []byte{2, byte(vp), regSVR, 0, 0xFF, 1, 0, 0})
			}
			for i := 3 * opSize; i < len(stream); i += opSize {
				if stream[i]%19 == 5 || stream[i]%19 <= 2 && stream[i+2]&0x3F == regSVR {
					stream[i] = 9
				}
			}
		}
		play(t, stream)
	}
}

func FuzzLocalRegisters(f *testing.F) {
	f.Add([]byte{2, 0, regSVR, 0, 0xFF, 1, 0, 0, 2, 0, regICR, 0, 0x41, 0x40, 4, 0, 9, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{5, 0, 0, 0, 0x0C, 0, 0xE0, 0xFE, 4, 0, regICR, 0, 0x41, 0x40, 0xC, 0})
	f.Add([]byte{
		2, 1, regSVR, 0, 0xFF, 1, 0, 0, 2, 1, regLVTTimer, 0, 0x50, 0, 2, 0,
		2, 1, regInitial, 0, 1, 0, 0, 0, 11, 1, 9, 0, 77, 0, 0, 0,
	})
	f.Add([]byte{2, 0, regSVR, 0, 0xFF, 1, 0, 0, 2, 0, regLVTLINT0, 0, 0x50, 0x80, 0, 0, 14, 0, 1, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, stream []byte) { play(t, stream) })
}

func FuzzIOAPIC(f *testing.F) {
	f.Add([]byte{17, 0, 0x16, 0, 0x41, 0x80, 0, 0, 18, 0, 3, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 2, 0, regEOI, 0, 0, 0, 0, 0})
	f.Add([]byte{17, 0, 0x17, 0, 0, 0, 0, 0xFF, 17, 0, 0x16, 0, 0x41, 1, 0, 0, 18, 0, 3, 0, 1, 0, 0, 0})
	f.Add([]byte{16, 0, 0x40, 2, 0x41, 0, 0, 0})
	// The stream starts on a machine whose APICs and first pin are ready, and
	// its operations favour the IOAPIC.
	ready := []byte{
		2, 0, regSVR, 0, 0xFF, 1, 0, 0, 2, 1, regSVR, 0, 0xFF, 1, 0, 0,
		17, 0, ioTable, 0, 0x41, 0x80, 0, 0,
	}
	favoured := [8]byte{16, 17, 17, 18, 18, 9, 2, 10}
	f.Fuzz(func(t *testing.T, stream []byte) {
		coded := append([]byte(nil), ready...)
		coded = append(coded, stream...)
		for i := len(ready); i < len(coded); i += opSize {
			if coded[i] >= 19 {
				coded[i] = favoured[coded[i]&7]
			}
		}
		play(t, coded)
	})
}
