package x86emu

// arithmetic runs the operations of compute: on r/m, on a register, or on the
// accumulator.
func (e *Emulator) arithmetic() bool {
	in := &e.in
	n := in.size
	if in.form == formAI {
		return e.toRegister(regRAX, truncate(in.literal, n))
	}
	readOnly := in.form == formGE || in.op == OpCMP || in.op == OpTEST
	rm, ok := e.rmOperand(n, !readOnly)
	if !ok || !e.commit() {
		return false
	}
	if in.form == formGE {
		src, ok := e.read(&rm)
		return ok && e.toRegister(in.reg, src)
	}
	src := truncate(in.literal, n)
	if in.form == formEG {
		src = e.readReg(in.reg, n)
	}
	if readOnly {
		old, ok := e.read(&rm)
		if ok {
			_, e.s.RFLAGS = compute(in.op, old, src, e.s.RFLAGS, n)
		}
		return ok
	}
	return e.modify(&rm, src)
}

// toRegister applies the operation to a register.
func (e *Emulator) toRegister(reg uint8, src uint64) bool {
	in := &e.in
	var v uint64
	v, e.s.RFLAGS = compute(in.op, e.readReg(reg, in.size), src, e.s.RFLAGS, in.size)
	if in.op != OpCMP && in.op != OpTEST {
		e.writeReg(reg, in.size, v)
	}
	return true
}

// modify reads, computes and writes r/m. XCHG with memory locks without the
// prefix (Intel SDM vol. 3 §9.1.2.1).
func (e *Emulator) modify(rm *operand, src uint64) bool {
	in := &e.in
	lock := in.lock || in.op == OpXCHG
	for range lockTries {
		old, ok := e.read(rm)
		if !ok {
			return false
		}
		after, flags := compute(in.op, old, src, e.s.RFLAGS, in.size)
		if rm.memory {
			done, ok := e.exchange(&rm.span, old, after, lock)
			if !ok {
				return false
			}
			if !done {
				continue
			}
		}
		if in.op == OpXCHG || in.op == OpXADD {
			e.writeReg(in.reg, in.size, old)
		}
		if !rm.memory { // after the source: they may be the same register
			e.writeReg(rm.reg, in.size, after)
		}
		e.s.RFLAGS = flags
		return true
	}
	return e.again()
}

// bitTest runs BT and its kin. A register offset with memory is signed and
// reaches beyond the operand, in steps of its size (SDM vol. 2, "BT").
func (e *Emulator) bitTest() bool {
	in := &e.in
	n := in.size
	bits := uint64(n) * 8
	offset := in.literal
	var rm operand
	var ok bool
	if in.form == formEG {
		offset = signExtend(e.readReg(in.reg, n), n)
	}
	switch {
	case in.memory && in.form == formEG:
		steps := int64(offset) >> (uint(len8(n)) + 3)
		at := truncate(e.effective()+uint64(steps)*uint64(n), in.address)
		rm, ok = e.memoryOperand(at, n, in.op != OpBT)
	default:
		rm, ok = e.rmOperand(n, in.op != OpBT)
	}
	if !ok || !e.commit() {
		return false
	}
	bit := uint64(1) << (offset & (bits - 1))
	for range lockTries {
		old, ok := e.read(&rm)
		if !ok {
			return false
		}
		if in.op != OpBT {
			done, ok := e.exchangeOrWrite(&rm, old, changeBit(in.op, old, bit))
			if !ok {
				return false
			}
			if !done {
				continue
			}
		}
		e.s.RFLAGS &^= flagCF
		if old&bit != 0 {
			e.s.RFLAGS |= flagCF
		}
		return true
	}
	return e.again()
}

// len8 is the logarithm of an operand size.
func len8(n int) int {
	switch n {
	case 2:
		return 1
	case 4:
		return 2
	}
	return 3
}

// changeBit applies BTS, BTR or BTC.
func changeBit(op Op, v, bit uint64) uint64 {
	switch op {
	case OpBTS:
		return v | bit
	case OpBTR:
		return v &^ bit
	default:
		return v ^ bit
	}
}

// exchangeOrWrite replaces r/m, with LOCK as the prefix says.
func (e *Emulator) exchangeOrWrite(rm *operand, before, after uint64) (done, ok bool) {
	if rm.memory {
		return e.exchange(&rm.span, before, after, e.in.lock)
	}
	e.writeReg(rm.reg, rm.n, after)
	return true, true
}
