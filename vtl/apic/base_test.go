package apic

import (
	"fmt"
	"testing"

	"keel/hcl/abi/x86"
)

// TestModeTransitions walks every edge of SDM vol. 3, "x2APIC State
// Transitions".
func TestModeTransitions(t *testing.T) {
	const (
		disabled = 0
		invalid  = baseX2
		xapic    = baseEnable
		x2apic   = baseEnable | baseX2
	)
	paths := map[uint64][]uint64{disabled: {disabled}, xapic: {}, x2apic: {x2apic}}
	for _, c := range []struct {
		from, to uint64
		legal    bool
	}{
		{disabled, disabled, true},
		{disabled, xapic, true},
		{disabled, x2apic, false},
		{disabled, invalid, false},
		{xapic, disabled, true},
		{xapic, xapic, true},
		{xapic, x2apic, true},
		{xapic, invalid, false},
		{x2apic, disabled, true},
		{x2apic, xapic, false},
		{x2apic, x2apic, true},
		{x2apic, invalid, false},
	} {
		l, _ := newLocal()
		for _, step := range paths[c.from] {
			l.SetAPICBase(x86.APIC_DEFAULT_BASE | step)
		}
		name := fmt.Sprintf("%#x to %#x", c.from, c.to)
		check(t, name, l.SetAPICBase(x86.APIC_DEFAULT_BASE|c.to), c.legal)
		want := c.from
		if c.legal {
			want = c.to
		}
		check(t, name+": base", l.APICBase(), x86.APIC_DEFAULT_BASE|baseBSP|want)
		_, mapped := l.MMIOBase()
		check(t, name+": page", mapped, want == xapic)
	}
}

func TestAPICBaseReservedBits(t *testing.T) {
	for _, bit := range []int{0, 1, 7, 9, 52, 63} {
		l, _ := newLocal()
		check(t, fmt.Sprintf("bit %d", bit), l.SetAPICBase(l.APICBase()|1<<bit), false)
	}
	l, _ := newLocal()
	check(t, "relocation", l.SetAPICBase(0x1_2345_6000|baseEnable), true)
	page, ok := l.MMIOBase()
	check(t, "page", page, 0x1_2345_6000)
	check(t, "mapped", ok, true)
}

func TestModeChangeState(t *testing.T) {
	s, _ := newSet(2)
	l := s.Local(0)
	l.write(regTPR, 0x20)
	l.write(regICRHigh, 1<<24)
	l.write(regLVTError, 0x77)
	l.accept(0x90, false)
	l.x2(t)
	check(t, "TPR survives", l.TPR(), 0x20)
	check(t, "request survives", l.requests(), 0x90)
	v, _ := l.ReadMSR(x86.X2APIC_MSR_FIRST + regLVTError)
	check(t, "LVT survives", v, 0x77)
	v, _ = l.ReadMSR(x86.X2APIC_MSR_FIRST + regICR)
	check(t, "ICR destination", v, 0)

	l.SetAPICBase(l.APICBase() &^ (baseEnable | baseX2))
	check(t, "disabled: no delivery", s.Deliver(Message{Vector: 0x30}), 0)
	check(t, "disabled: no INIT", s.Deliver(Message{Mode: INIT}), 0)
	check(t, "disabled: broadcast", s.Deliver(Message{Dest: Broadcast, Vector: 0x30}), 1)
	check(t, "disabled: page", l.ReadMMIO(0x30, 4), ^uint64(0))
	s.SetLINT0(true)
	check(t, "disabled: 8259 at the core", l.ExtINTPending(), true)
	s.NMI()
	check(t, "disabled: NMI at the core", l.Pending().NMI, true)
	l.SetAPICBase(l.APICBase() | baseEnable)
	check(t, "state is lost", l.read(regSVR), svrReset)
	check(t, "TPR is lost", l.TPR(), 0)
	check(t, "LINT0 masked again", l.ExtINTPending(), false)
}
