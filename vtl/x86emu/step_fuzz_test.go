package x86emu

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
)

// entropy hands out the bytes of a fuzz input, then zeros.
type entropy []byte

func (e *entropy) u64() uint64 {
	var b [8]byte
	*e = (*e)[copy(b[:], *e):]
	return binary.LittleEndian.Uint64(b[:])
}

// places are addresses worth having in a register.
var places = [...]uint64{dataAt, dataAt + 0xFFC, deviceAt, deviceAt + 0xFFE, stackAt, tablesAt + 0x6000, 0x6000, 1<<47 - 4, 0xFFFFFFFE, ramEnd - 1, 3}

// scatter fills a state from a fuzz input.
func scatter(s *State, m *machine, in *entropy) {
	for i := range s.GPR {
		v := in.u64()
		if v&1 != 0 {
			v = places[v>>1%uint64(len(places))] + v>>32&0xF
		}
		s.GPR[i] = v
	}
	v := in.u64()
	s.RFLAGS = v&(flagsArithmetic|flagDF|flagTF|flagAC|3<<flagIOPL) | 2
	v >>= 32
	if s.EFER == 0 && v&1 != 0 {
		s.Segments[segDS].Limit = uint32(in.u64())
		s.Segments[segES].Attributes = uint32(in.u64()) & 0x1F0FF
		s.Segments[segSS].Base = in.u64() & 0xFFFFF
	}
	if v&2 != 0 {
		user(s, m)
	}
	s.CR0 |= v & cr0WP
	if v&4 != 0 {
		s.CR0 |= cr0WP | cr0AM
		s.CR4 |= cr4SMAP | cr4PKE
		s.PKRU = uint32(in.u64())
	}
	if v&8 != 0 { // spoil some entries
		for range 4 {
			r := in.u64()
			at := m.ram[tablesAt+int(r%0x7000)&^7:][:8]
			putInt(at, getInt(at)^1<<(r>>32&63))
		}
	}
	if v&16 != 0 {
		s.RIP = 0x1FFF - v>>8&0xF
	}
	s.Segments[segGS].Base = in.u64()
}

// checkStep runs one step and checks what holds for every input.
func checkStep(t *testing.T, code []byte, m *machine, s *State) Outcome {
	t.Helper()
	before, ram, device, ymm := *s, m.ram, m.device, m.ymm
	e := New(m, m, m)
	r := e.Step(s)
	if len(m.bad) > 0 {
		t.Fatalf("% x: out of bounds: %v", code, m.bad)
	}
	if len(m.log) > 4*burst {
		t.Fatalf("% x: %d device accesses", code, len(m.log))
	}
	isString := e.in.op >= OpMOVS && e.in.op <= OpOUTS
	switch r.Outcome {
	case Done:
		if e.in.op != OpCALL && e.in.op != OpJMP && s.RIP == before.RIP {
			t.Fatalf("% x: done, but RIP stays", code)
		}
		return r.Outcome
	case Continue:
		if s.RIP != before.RIP {
			t.Fatalf("% x: RIP moves in a repetition", code)
		}
		return r.Outcome
	case Faulted, Unsupported:
	}
	if s.RIP != before.RIP {
		t.Fatalf("% x: RIP moves on %+v", code, r)
	}
	late := (e.in.op == OpCALL || e.in.op == OpJMP) && r.Outcome == Faulted
	switch {
	case isString && e.moved:
		before.GPR = s.GPR
		before.RFLAGS = s.RFLAGS
	case m.ram != ram && !late: // a bad branch target in a device is found after the walks
		t.Fatalf("% x: RAM changes on %+v", code, r)
	case m.device != device || len(m.log) > 0 && !late:
		t.Fatalf("% x: device access on %+v: %v", code, r, m.log)
	}
	if *s != before || m.ymm != ymm {
		t.Fatalf("% x: registers change on %+v", code, r)
	}
	return r.Outcome
}

func FuzzStep(f *testing.F) {
	for _, table := range [][]vector{moveVectors, aluVectors, bitVectors, stringVectors, stackVectors, vectorVectors, faultVectors} {
		for i, v := range table {
			code, err := hex.DecodeString(strings.ReplaceAll(v.code, " ", ""))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(code, uint8(v.mode), binary.LittleEndian.AppendUint64(nil, uint64(i)*0x9E3779B97F4A7C15|1))
		}
	}
	f.Fuzz(func(t *testing.T, code []byte, width uint8, data []byte) {
		m := &machine{}
		s := newState(m, mode(width%3))
		in := entropy(data)
		scatter(s, m, &in)
		copy(m.ram[s.RIP:], code[:min(len(code), maxLength)])
		checkStep(t, code, m, s)
	})
}

// TestStepRandom runs checkStep over changed instructions of all tables with
// random states.
func TestStepRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	outcomes := [Unsupported + 1]int{}
	for range 300 {
		for _, table := range [][]vector{moveVectors, aluVectors, bitVectors, stringVectors, stackVectors, vectorVectors} {
			v := &table[r.IntN(len(table))]
			code, err := hex.DecodeString(strings.ReplaceAll(v.code, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			if r.IntN(4) == 0 {
				code[r.IntN(len(code))] ^= 1 << r.IntN(8)
			}
			data := make([]byte, 400)
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			m := &machine{}
			s := newState(m, v.mode)
			in := entropy(data)
			scatter(s, m, &in)
			copy(m.ram[s.RIP:], code[:min(len(code), maxLength)])
			outcomes[checkStep(t, code, m, s)]++
		}
	}
	for o, n := range outcomes {
		if n == 0 {
			t.Errorf("no step ended with outcome %d", o)
		}
	}
}

// FuzzWalk leaves paging structures and control registers to
// the input: no walk may leave its bounds.
func FuzzWalk(f *testing.F) {
	f.Add(uint64(0xFFFF800000001000), uint64(tablesAt), uint64(cr4PAE), uint64(eferLMA), []byte{0xFF, 0x0F})
	f.Add(uint64(0x1000), uint64(tablesAt+0x20), uint64(cr4PAE), uint64(0), []byte{0x01})
	f.Add(uint64(0x1000), uint64(tablesAt), uint64(cr4PSE), uint64(0), []byte{0x83})
	f.Fuzz(func(t *testing.T, linear, cr3, cr4, efer uint64, tables []byte) {
		m := &machine{}
		s := newState(m, mode32)
		if len(tables) > 0 {
			for i := copy(m.ram[tablesAt:], tables); tablesAt+i < len(m.ram); i *= 2 {
				copy(m.ram[tablesAt+i:], m.ram[tablesAt:tablesAt+i])
			}
		}
		s.CR0 |= cr0PG | cr0WP
		s.CR3, s.CR4, s.EFER, s.PhysicalBits = cr3, cr4, efer, 40
		ram := m.ram
		e := New(m, nil, nil)
		e.s = s
		gpa, ok := e.walk(linear, access{write: true})
		if len(m.bad) > 0 {
			t.Fatalf("out of bounds: %v", m.bad)
		}
		if ok && uint64(gpa)>>40 != 0 {
			t.Fatalf("address %#x beyond the physical width", gpa)
		}
		if !ok && e.res.Outcome == Done {
			t.Fatal("failed without a reason")
		}
		if m.ram != ram {
			t.Fatal("a walk wrote")
		}
	})
}
