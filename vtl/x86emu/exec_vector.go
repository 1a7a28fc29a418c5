package x86emu

// vectorMove runs the moves between vector registers, memory and
// general-purpose registers.
func (e *Emulator) vectorMove() bool {
	in := &e.in
	n := e.vectorSize()
	if !in.memory {
		return e.vectorRegister(n)
	}
	offset := e.effective()
	write := in.flags&flagStore != 0
	if in.flags&flagAlign != 0 && !e.aligned(offset, n, write) {
		return false
	}
	rm, ok := e.memoryOperand(offset, n, write)
	if !ok || !e.commit() {
		return false
	}
	if write {
		e.vectors.ReadVector(int(in.reg), &e.buf)
		if in.op == OpMOVHP {
			copy(e.buf[:8], e.buf[8:16])
		}
		return e.store(&rm.span)
	}
	half := in.op == OpMOVLP || in.op == OpMOVHP
	if half {
		return e.loadHalf(&rm)
	}
	if !e.load(&rm.span) {
		return false
	}
	clear(e.buf[n:])
	e.vectors.WriteVector(int(in.reg), &e.buf, in.vex)
	return true
}

// vectorSize is the number of bytes that move.
func (e *Emulator) vectorSize() int {
	in := &e.in
	switch in.op {
	case OpVMOV, OpVMOVA:
		if in.vexWide {
			return 32
		}
		return 16
	case OpMOVSS:
		return 4
	case OpMOVD:
		if in.rex&8 == 0 || in.mode != mode64 {
			return 4
		}
	default:
	}
	return 8
}

// aligned raises #GP(0) if the linear address is no multiple of n.
func (e *Emulator) aligned(offset uint64, n int, write bool) bool {
	linear, ok := e.linear(e.in.memSegment, offset, n, write)
	if !ok {
		return false
	}
	if linear%uint64(n) != 0 {
		return e.fault(vectorGP)
	}
	return true
}

// loadHalf loads one quadword of a register and keeps the other.
func (e *Emulator) loadHalf(rm *operand) bool {
	in := &e.in
	v, ok := e.loadInt(&rm.span)
	if !ok {
		return false
	}
	e.vectors.ReadVector(int(in.reg), &e.buf)
	at := 0
	if in.op == OpMOVHP {
		at = 8
	}
	putInt(e.buf[at:at+8], v)
	e.vectors.WriteVector(int(in.reg), &e.buf, false)
	return true
}

// vectorRegister runs the forms without memory.
func (e *Emulator) vectorRegister(n int) bool {
	in := &e.in
	from, to := in.rm, in.reg
	if in.flags&flagStore != 0 {
		from, to = to, from
	}
	switch {
	case in.op == OpMOVD && in.flags&flagStore != 0:
		e.vectors.ReadVector(int(from), &e.buf)
		e.writeReg(to, n, getInt(e.buf[:n]))
		return true
	case in.op == OpMOVD:
		clear(e.buf[:])
		putInt(e.buf[:n], e.readReg(from, n))
	case in.op == OpMOVSS || in.op == OpMOVSD: // merge into the destination
		e.vectors.ReadVector(int(from), &e.buf)
		low := getInt(e.buf[:n])
		e.vectors.ReadVector(int(to), &e.buf)
		putInt(e.buf[:n], low)
	default:
		e.vectors.ReadVector(int(from), &e.buf)
		clear(e.buf[n:])
	}
	e.vectors.WriteVector(int(to), &e.buf, in.vex)
	return true
}
