package apic

import "keel/vtl/irq"

// ReadMMIO reads the xAPIC page. Registers are 32 bits wide, one for each 16
// bytes; a narrower read inside one returns its bytes, a wider one zeros above
// it. Where the mode has no page, reads return ones.
func (l *Local) ReadMMIO(offset uint64, size int) uint64 {
	if l.base&(baseEnable|baseX2) != baseEnable {
		l.set.refused.Add(1)
		return ^uint64(0)
	}
	within := offset & 0xF
	if offset >= 0x400 || within >= 4 {
		l.illegalRegister()
		return 0
	}
	v, ok := l.readRegister(uint32(offset >> 4))
	if !ok {
		l.illegalRegister()
		return 0
	}
	return uint64(v) >> (within * 8) & (1<<(min(size, 4)*8) - 1)
}

// WriteMMIO writes the xAPIC page. Only whole registers can be written; other
// accesses are counted and ignored.
func (l *Local) WriteMMIO(offset uint64, size int, value uint64) {
	switch {
	case l.base&(baseEnable|baseX2) != baseEnable:
		l.set.refused.Add(1)
	case offset >= 0x400 || offset&0xF != 0 || size < 4:
		l.illegalRegister()
	case !l.writeRegister(uint32(offset>>4), uint32(value)):
		l.illegalRegister()
	}
}

// illegalRegister counts an access to a reserved part of the page and tells
// the guest.
func (l *Local) illegalRegister() {
	l.set.refused.Add(1)
	l.fail(esrIllegalRegister)
}

// readRegister returns a register of the xAPIC page, or false if it is
// reserved. The arbitration priority and remote read registers of the P6
// family read as zero, as do registers that only take writes.
func (l *Local) readRegister(reg uint32) (uint32, bool) {
	switch {
	case reg >= regISR && reg < regTMR:
		return l.isr[reg-regISR], true
	case reg >= regTMR && reg < regIRR:
		return l.tmr[reg-regTMR].Load(), true
	case reg >= regIRR && reg < regESR:
		return l.irr[reg-regIRR].Load(), true
	case reg >= regLVTTimer && reg <= regLVTError:
		return l.readLVT(int(reg - regLVTTimer)), true
	}
	switch reg {
	case regID:
		return uint32(l.id) << 24, true
	case regVersion:
		return versionValue, true
	case regTPR:
		return l.tpr.Load(), true
	case regPPR:
		return l.ppr(), true
	case regAPR, regRRD, regEOI:
		return 0, true
	case regLDR:
		return l.ldr, true
	case regDFR:
		return l.dfr, true
	case regSVR:
		return l.svr, true
	case regESR:
		return l.esr, true
	case regICR:
		return uint32(l.icr), true
	case regICRHigh:
		return uint32(l.icr >> 32), true
	case regInitial:
		return l.timer.initial, true
	case regCurrent:
		return l.currentCount(), true
	case regDivide:
		return l.timer.divide, true
	}
	return 0, false
}

// writeRegister writes a register of the xAPIC page and returns false if it is
// reserved. Writes to read-only registers do nothing; the APIC ID is one.
func (l *Local) writeRegister(reg, v uint32) bool {
	switch reg {
	case regTPR:
		l.WriteTPR(uint8(v))
	case regEOI:
		l.EndOfInterrupt()
	case regLDR:
		l.ldr = v & 0xFF000000
		l.publish()
	case regDFR:
		l.dfr = v | dfrFixed
		l.publish()
	case regSVR:
		l.writeSVR(v)
	case regESR:
		l.writeESR()
	case regICR:
		l.icr = l.icr&^0xFFFFFFFF | uint64(v&icrWritable)
		l.sendIPI()
	case regICRHigh:
		l.icr = l.icr&0xFFFFFFFF | uint64(v&0xFF000000)<<32
	case regLVTTimer, regLVTTherm, regLVTPMI, regLVTLINT0, regLVTLINT1, regLVTError:
		l.writeLVT(int(reg-regLVTTimer), v)
	case regInitial:
		l.writeInitial(v)
	case regDivide:
		l.writeDivide(v)
	case regSelfIPI:
		if l.base&baseX2 == 0 {
			return false
		}
		l.selfIPI(irq.Vector(v))
	default:
		_, readable := l.readRegister(reg)
		return readable
	}
	return true
}
