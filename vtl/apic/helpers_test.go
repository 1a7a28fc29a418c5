package apic

import (
	"math"
	"testing"

	"keel/hcl/abi/x86"
	"keel/vtl/irq"
)

// fakeEnv is a machine whose time stands still until a test moves it. The
// guest's TSC runs at 2 GHz, started 1000 ns before time zero.
type fakeEnv struct {
	now   int64
	tsc   int64 // TSC beyond what time says
	kicks [16]int
}

func (e *fakeEnv) Now() int64     { return e.now }
func (e *fakeEnv) Kick(vp int)    { e.kicks[vp]++ }
func (e *fakeEnv) TSC(int) uint64 { return uint64((e.now+1000)*2 + e.tsc) }
func (e *fakeEnv) TSCToTime(_ int, tsc uint64) int64 {
	return (int64(min(tsc, math.MaxInt64))-e.tsc)/2 - 1000
}

// newSet returns n local APICs with contiguous IDs, enabled by software.
func newSet(n int) (*Set, *fakeEnv) {
	env := &fakeEnv{now: 5000}
	ids := make([]x86.APICID, n)
	for i := range ids {
		ids[i] = x86.APICID(i)
	}
	s := NewSet(ids, env)
	for _, l := range s.locals {
		l.write(regSVR, svrEnable|0xFF)
	}
	return s, env
}

// newLocal returns the local APIC of a machine with one VP.
func newLocal() (*Local, *fakeEnv) {
	s, env := newSet(1)
	return s.Local(0), env
}

func (l *Local) write(reg int, v uint32) { l.WriteMMIO(uint64(reg)<<4, 4, uint64(v)) }
func (l *Local) read(reg int) uint32     { return uint32(l.ReadMMIO(uint64(reg)<<4, 4)) }

// x2 puts the local APIC into x2APIC mode.
func (l *Local) x2(tb testing.TB) {
	tb.Helper()
	if !l.SetAPICBase(l.APICBase() | baseX2) {
		tb.Fatal("x2APIC mode refused")
	}
}

// take acknowledges the next vector, or returns 0 when there is none.
func (l *Local) take() irq.Vector {
	if _, ok := l.NextVector(); !ok {
		return 0
	}
	return l.Acknowledge()
}

// requests returns the highest vector in the IRR whatever its priority, or 0.
func (l *Local) requests() irq.Vector {
	v, _ := l.irr.highest()
	return v
}

func check[T comparable](tb testing.TB, what string, got, want T) {
	tb.Helper()
	if got != want {
		tb.Errorf("%s = %v, want %v", what, got, want)
	}
}
