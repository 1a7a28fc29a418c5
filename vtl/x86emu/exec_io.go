package x86emu

// elementINS reads a port into ES:rDI. The memory is checked first: reading a
// port may change the device.
func (e *Emulator) elementINS() bool {
	port, n := uint16(e.s.GPR[regRDX]), e.in.size
	if !e.portAllowed(port, n) {
		return false
	}
	dst, ok := e.destination(true)
	if !ok || !e.commit() || !e.storeInt(&dst, uint64(e.ports.ReadPIO(port, n))) {
		return false
	}
	e.step(regRDI)
	return true
}

// elementOUTS writes DS:rSI to a port.
func (e *Emulator) elementOUTS() bool {
	port, n := uint16(e.s.GPR[regRDX]), e.in.size
	if !e.portAllowed(port, n) {
		return false
	}
	src, ok := e.source()
	if !ok || !e.commit() {
		return false
	}
	v, ok := e.loadInt(&src)
	if !ok {
		return false
	}
	e.ports.WritePIO(port, n, uint32(v))
	e.step(regRSI)
	return true
}

// portAllowed checks IOPL, and failing that the I/O permission bitmap of the
// task (Intel SDM vol. 1 §19.5).
func (e *Emulator) portAllowed(port uint16, n int) bool {
	s := e.s
	if e.ports == nil {
		return e.refuse(ReasonPorts)
	}
	iopl := uint8(s.RFLAGS>>flagIOPL) & 3
	if s.CR0&cr0PE == 0 || !s.virtual8086() && s.cpl() <= iopl {
		return true
	}
	base, ok := e.tssWord(tssBitmapOffset)
	if !ok {
		return false
	}
	// The processor reads two bytes, so that one access is enough for ports
	// that lie across a byte.
	bits, ok := e.tssWord(base + uint64(port)/8)
	if !ok {
		return false
	}
	if bits>>(port%8)&(1<<n-1) != 0 {
		return e.fault(vectorGP)
	}
	return true
}

// tssWord reads two bytes of the task state segment.
func (e *Emulator) tssWord(offset uint64) (uint64, bool) {
	tr := &e.s.TR
	if offset+1 > uint64(tr.Limit) {
		return 0, e.fault(vectorGP)
	}
	sp, ok := e.translateLinear(tr.Base+offset, 2, access{system: true})
	if !ok {
		return 0, false
	}
	if sp.device() {
		return 0, e.refuse(ReasonMemory)
	}
	return e.loadInt(&sp)
}
