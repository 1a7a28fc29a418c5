package apic

import "keel/hcl/abi/x86"

// APICBase returns IA32_APIC_BASE.
func (l *Local) APICBase() uint64 { return l.base }

// SetAPICBase writes IA32_APIC_BASE. It returns false where the processor
// raises #GP: reserved bits, or a change of mode that the state machine of
// SDM vol. 3, "x2APIC State Transitions", does not allow. The BSP flag keeps
// its value.
func (l *Local) SetAPICBase(v uint64) bool {
	const modes = baseEnable | baseX2
	from, to := l.base&modes, v&modes
	illegal := to == baseX2 ||
		from == 0 && to == modes ||
		from == modes && to == baseEnable
	if v&^uint64(baseWritable) != 0 || illegal {
		l.set.refused.Add(1)
		return false
	}
	l.base = v&^baseBSP | l.base&baseBSP
	switch {
	case from != 0 && to == 0:
		l.Init() // the state is lost
	case from == baseEnable && to == modes:
		l.icr &= icrWritable // the destination field has another layout
	}
	l.publish()
	return true
}

// MMIOBase returns the address of the register page, or false when the mode
// has none: disabled or x2APIC.
func (l *Local) MMIOBase() (x86.GPA, bool) {
	return x86.GPA(l.base & baseAddress), l.base&(baseEnable|baseX2) == baseEnable
}
