package apic

import "keel/hcl/abi/x86"

// ReadMSR reads a register through its x2APIC MSR, X2APIC_MSR_FIRST to
// X2APIC_MSR_LAST. It returns false where the processor raises #GP: outside
// x2APIC mode, and for registers that are reserved or only take writes.
func (l *Local) ReadMSR(msr uint32) (uint64, bool) {
	reg := msr - x86.X2APIC_MSR_FIRST
	if l.base&baseX2 == 0 || reg > regSelfIPI {
		l.set.refused.Add(1)
		return 0, false
	}
	switch reg {
	case regID:
		return uint64(l.id), true
	case regLDR:
		return uint64(l.x2LDR()), true
	case regICR:
		return l.icr, true
	case regEOI, regAPR, regRRD, regDFR, regICRHigh, regSelfIPI:
		l.set.refused.Add(1)
		return 0, false
	}
	v, ok := l.readRegister(reg)
	if !ok {
		l.set.refused.Add(1)
	}
	return uint64(v), ok
}

// WriteMSR writes a register through its x2APIC MSR. It returns false where
// the processor raises #GP: outside x2APIC mode, for registers that are
// reserved or read-only, and for reserved bits.
func (l *Local) WriteMSR(msr uint32, v uint64) bool {
	reg := msr - x86.X2APIC_MSR_FIRST
	allowed, ok := x2Writable(reg)
	if l.base&baseX2 == 0 || !ok || v&^allowed != 0 {
		l.set.refused.Add(1)
		return false
	}
	if reg == regICR {
		l.icr = v & (0xFFFFFFFF<<icrDestShift | icrWritable)
		l.sendIPI()
		return true
	}
	return l.writeRegister(reg, uint32(v))
}

// x2Writable returns the bits that a write of a register may set, or false for
// one that takes no writes. Read-only bits of writable registers are allowed
// and ignored.
func x2Writable(reg uint32) (uint64, bool) {
	switch reg {
	case regTPR, regSelfIPI:
		return 0xFF, true
	case regEOI, regESR:
		return 0, true
	case regSVR:
		return svrVector | svrEnable | svrFocus, true
	case regICR:
		return 0xFFFFFFFF<<icrDestShift | icrWritable | icrStatus, true
	case regLVTLINT0, regLVTLINT1:
		return uint64(lvtWritable[reg-regLVTTimer]) | lvtStatus | lvtRemoteIRR, true
	case regLVTTimer, regLVTTherm, regLVTPMI, regLVTError:
		return uint64(lvtWritable[reg-regLVTTimer]) | lvtStatus, true
	case regInitial:
		return 0xFFFFFFFF, true
	case regDivide:
		return divideBits, true
	}
	return 0, false
}
