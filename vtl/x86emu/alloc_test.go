package x86emu

import (
	"testing"

	"keel/hcl/abi/x86"
)

// TestNoAllocation holds the success path of common forms to no allocation.
func TestNoAllocation(t *testing.T) {
	for _, table := range [][]vector{moveVectors, aluVectors, bitVectors, stackVectors, vectorVectors} {
		for i := range table {
			v := &table[i]
			if v.want != Done || v.log != "" { // the test device's log allocates
				continue
			}
			m, s := v.start(t)
			start := *s
			e := New(m, m, m)
			if n := testing.AllocsPerRun(5, func() { *s = start; e.Step(s) }); n != 0 {
				t.Errorf("%s: %v allocations", v.name, n)
			}
		}
	}
}

// quiet is the machine without a log.
type quiet struct{ *machine }

func (q quiet) ReadMMIO(_ x86.GPA, p []byte) { copy(p, q.device[:]) }

func (q quiet) WriteMMIO(_ x86.GPA, p []byte) { copy(q.device[:], p) }

func BenchmarkMOVToMMIO(b *testing.B) {
	m := &machine{}
	s := newState(m, mode64)
	copy(m.ram[codeAt:], []byte{0x89, 0x43, 0x10})
	s.GPR[3] = deviceAt
	e := New(quiet{m}, nil, nil)
	b.ReportAllocs()
	for b.Loop() {
		s.RIP = codeAt
		if e.Step(s).Outcome != Done {
			b.Fatal("not done")
		}
	}
}

func BenchmarkREPMOVS(b *testing.B) {
	m := &machine{}
	s := newState(m, mode64)
	copy(m.ram[codeAt:], []byte{0xF3, 0xA5})
	e := New(quiet{m}, nil, nil)
	b.ReportAllocs()
	for b.Loop() {
		s.RIP = codeAt
		s.GPR[1], s.GPR[6], s.GPR[7] = burst, dataAt, deviceAt
		if e.Step(s).Outcome != Done {
			b.Fatal("not done")
		}
	}
}
