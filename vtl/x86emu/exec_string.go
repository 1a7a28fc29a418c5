package x86emu

// burst bounds the elements of one step of a repeated string instruction.
// Hardware takes interrupts between elements; the caller does so between steps.
const burst = 64

// strings runs a string instruction (SDM vol. 2, "REP/REPE/REPZ/REPNE/REPNZ").
// Registers are up to date after each element, so that a fault can be resumed.
func (e *Emulator) strings() bool {
	in, s := &e.in, e.s
	compares := in.op == OpCMPS || in.op == OpSCAS
	repeat := in.rep || in.repne
	limit := burst
	if s.RFLAGS&flagTF != 0 {
		limit = 1
	}
	before := s.RFLAGS
	for range limit {
		if repeat && e.counter(regRCX) == 0 {
			e.advance()
			return true
		}
		if !e.element() {
			switch {
			case compares && e.res.Outcome == Faulted:
				s.RFLAGS = before // flags return to the start of the step
			case e.moved && e.res.Outcome == Unsupported:
				e.res.Reason = ReasonNone // the next step says it again, having done nothing
				return e.again()
			}
			return false
		}
		e.moved = true
		if !repeat {
			e.advance()
			return true
		}
		left := e.counter(regRCX) - 1
		e.setCounter(regRCX, left)
		zf := s.RFLAGS&flagZF != 0
		if left == 0 || compares && zf == in.repne {
			e.advance()
			return true
		}
	}
	return e.again()
}

// counter reads a register with the address size.
func (e *Emulator) counter(reg uint8) uint64 { return truncate(e.s.GPR[reg], e.in.address) }

// setCounter writes a register with the address size.
func (e *Emulator) setCounter(reg uint8, v uint64) {
	e.s.GPR[reg] = merge(e.s.GPR[reg], v, e.in.address)
}

// step moves an index register past an element, in the direction of DF.
func (e *Emulator) step(reg uint8) {
	by := uint64(e.in.size)
	if e.s.RFLAGS&flagDF != 0 {
		by = -by
	}
	e.setCounter(reg, e.s.GPR[reg]+by)
}

// source translates DS:rSI or its override, destination ES:rDI.
func (e *Emulator) source() (span, bool) {
	return e.translate(e.in.segmentOr(segDS), e.counter(regRSI), e.in.size, access{})
}

func (e *Emulator) destination(write bool) (span, bool) {
	return e.translate(segES, e.counter(regRDI), e.in.size, access{write: write})
}

// element runs a string instruction once.
func (e *Emulator) element() bool {
	e.nmark = 0
	switch e.in.op {
	case OpMOVS:
		return e.elementMOVS()
	case OpCMPS:
		return e.elementCMPS()
	case OpSTOS:
		dst, ok := e.destination(true)
		if !ok || !e.commit() || !e.storeInt(&dst, e.readReg(regRAX, e.in.size)) {
			return false
		}
		e.step(regRDI)
	case OpLODS:
		src, ok := e.source()
		if !ok || !e.commit() {
			return false
		}
		v, ok := e.loadInt(&src)
		if !ok {
			return false
		}
		e.writeReg(regRAX, e.in.size, v)
		e.step(regRSI)
	case OpSCAS:
		dst, ok := e.destination(false)
		if !ok || !e.commit() {
			return false
		}
		v, ok := e.loadInt(&dst)
		if !ok {
			return false
		}
		_, e.s.RFLAGS = compute(OpCMP, e.readReg(regRAX, e.in.size), v, e.s.RFLAGS, e.in.size)
		e.step(regRDI)
	case OpINS:
		return e.elementINS()
	default:
		return e.elementOUTS()
	}
	return true
}

// elementMOVS checks both sides before it reads.
func (e *Emulator) elementMOVS() bool {
	src, ok := e.source()
	if !ok {
		return false
	}
	dst, ok := e.destination(true)
	if !ok || !e.commit() || !e.load(&src) || !e.store(&dst) {
		return false
	}
	e.step(regRSI)
	e.step(regRDI)
	return true
}

// elementCMPS compares the source with the destination.
func (e *Emulator) elementCMPS() bool {
	src, ok := e.source()
	if !ok {
		return false
	}
	dst, ok := e.destination(false)
	if !ok || !e.commit() {
		return false
	}
	a, ok := e.loadInt(&src)
	if !ok {
		return false
	}
	b, ok := e.loadInt(&dst)
	if !ok {
		return false
	}
	_, e.s.RFLAGS = compute(OpCMP, a, b, e.s.RFLAGS, e.in.size)
	e.step(regRSI)
	e.step(regRDI)
	return true
}
