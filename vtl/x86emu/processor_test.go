package x86emu

import (
	_ "embed"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"

	"keel/hcl/abi/x86"
)

//go:embed testdata/processor.txt
var recorded string

// TestProcessor compares with what a processor did.
func TestProcessor(t *testing.T) {
	m := &machine{}
	s := newState(m, mode64)
	e := New(m, m, m)
	start := *s
	n := 0
	for line := range strings.Lines(recorded) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var name, text string
		var v [8]uint64
		if _, err := fmt.Sscanf(line, "%s %s %x %x %x %x %x %x %x %x", &name, &text, &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]); err != nil {
			t.Fatal(line, err)
		}
		code, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(line, err)
		}
		*s = start
		copy(m.ram[codeAt:], code)
		s.GPR[regRAX], s.GPR[regRCX], s.GPR[regRDX], s.RFLAGS = v[0], v[1], v[2], v[3]|2
		if r := e.Step(s); r.Outcome != Done || int(r.Length) != len(code) {
			t.Fatalf("%s: %+v", line, r)
		}
		got := [4]uint64{s.GPR[regRAX], s.GPR[regRCX], s.GPR[regRDX], s.RFLAGS & flagsArithmetic}
		if got != [4]uint64(v[4:]) {
			t.Errorf("%s: got %x", line, got)
		}
		n++
	}
	if n < 400 {
		t.Errorf("compared %d instructions", n)
	}
}

// TestByteFlags compares all bytes with flags computed from the definitions of
// SDM vol. 1 §3.4.3.1 in wider arithmetic.
func TestByteFlags(t *testing.T) {
	for n := range 1 << 17 {
		a, b, c := n&0xFF, n>>8&0xFF, n>>16
		for _, op := range []Op{OpADC, OpSBB} {
			sign := 1
			if op == OpSBB {
				sign = -1
			}
			wide := a + sign*(b+c)
			signed := int(int8(a)) + sign*(int(int8(b))+c)
			nibble := a&0xF + sign*(b&0xF+c)
			var want uint64
			set := func(cond bool, flag uint64) {
				if cond {
					want |= flag
				}
			}
			set(wide < 0 || wide > 0xFF, flagCF)
			set(nibble < 0 || nibble > 0xF, flagAF)
			set(signed < -128 || signed > 127, flagOF)
			set(wide&0xFF == 0, flagZF)
			set(wide&0x80 != 0, flagSF)
			even := true
			for i := range 8 {
				even = even != (wide>>i&1 != 0)
			}
			set(even, flagPF)
			r, f := compute(op, uint64(a), uint64(b), uint64(c), 1)
			if r != uint64(wide&0xFF) || f != want {
				t.Fatalf("%v %#x %#x %d: %#x flags %#x, want %#x flags %#x", op, a, b, c, r, f, wide&0xFF, want)
			}
		}
	}
}

// shared is a machine whose RAM several VPs use.
type shared struct {
	*machine
	mu *sync.Mutex
}

func (m shared) ReadRAM(gpa x86.GPA, p []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machine.ReadRAM(gpa, p)
}

func (m shared) WriteRAM(gpa x86.GPA, p []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machine.WriteRAM(gpa, p)
}

func (m shared) CompareAndSwap(gpa x86.GPA, before, after uint64) (swapped, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machine.CompareAndSwap(gpa, before, after)
}

// TestLockedCounters lets VPs count in neighbouring bytes and in one word: no
// increment may be lost.
func TestLockedCounters(t *testing.T) {
	m := shared{&machine{}, &sync.Mutex{}}
	first := newState(m.machine, mode64)
	// lock inc byte [rbx]; lock xadd [rsi],eax
	copy(m.ram[codeAt:], []byte{0xF0, 0xFE, 0x03, 0xF0, 0x0F, 0xC1, 0x06})
	const vps, rounds = 4, 200
	var wg sync.WaitGroup
	for vp := range vps {
		s := *first
		s.GPR[3], s.GPR[6] = dataAt+uint64(vp), dataAt+4
		wg.Go(func() {
			e := New(m, nil, nil)
			for range rounds {
				s.RIP, s.GPR[0] = codeAt, 1
				for s.RIP < codeAt+7 {
					if r := e.Step(&s); r.Outcome != Done && r.Outcome != Continue {
						t.Errorf("%+v", r)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	for vp := range vps {
		if n := m.ram[dataAt+vp]; n != rounds {
			t.Errorf("VP %d counted %d", vp, n)
		}
	}
	if n := getInt(m.ram[dataAt+4:][:4]); n != vps*rounds {
		t.Errorf("together %d", n)
	}
}
