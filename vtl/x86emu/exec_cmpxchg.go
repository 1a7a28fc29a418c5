package x86emu

// compareExchange runs CMPXCHG. Memory is written in any case, with its old
// value if the comparison fails (SDM vol. 2, "CMPXCHG"). A register then stays
// as it is: processors do not even clear its upper half.
func (e *Emulator) compareExchange() bool {
	in := &e.in
	n := in.size
	rm, ok := e.rmOperand(n, true)
	if !ok || !e.commit() {
		return false
	}
	want, src := e.readReg(regRAX, n), e.readReg(in.reg, n)
	for range lockTries {
		old, ok := e.read(&rm)
		if !ok {
			return false
		}
		after := old
		if old == want {
			after = src
		}
		if rm.memory || old == want {
			done, ok := e.exchangeOrWrite(&rm, old, after)
			if !ok {
				return false
			}
			if !done {
				continue
			}
		}
		_, e.s.RFLAGS = compute(OpCMP, want, old, e.s.RFLAGS, n)
		if old != want {
			e.writeReg(regRAX, n, old)
		}
		return true
	}
	return e.again()
}

// compareExchangeWide runs CMPXCHG8B and CMPXCHG16B, which compare two
// registers and change ZF alone.
func (e *Emulator) compareExchangeWide() bool {
	half := 4
	if e.in.rex&8 != 0 {
		half = 8
	}
	offset := e.effective()
	if half == 8 && !e.aligned(offset, 16, true) {
		return false
	}
	rm, ok := e.memoryOperand(offset, 2*half, true)
	if !ok || !e.commit() {
		return false
	}
	want := [2]uint64{e.readReg(regRAX, half), e.readReg(regRDX, half)}
	src := [2]uint64{e.readReg(regRBX, half), e.readReg(regRCX, half)}
	for range lockTries {
		if !e.load(&rm.span) {
			return false
		}
		old := [2]uint64{getInt(e.buf[:half]), getInt(e.buf[half : 2*half])}
		after := old
		if old == want {
			after = src
		}
		done, ok := e.exchangeWide(&rm.span, half, old, after)
		if !ok {
			return false
		}
		if !done {
			continue
		}
		if old == want {
			e.s.RFLAGS |= flagZF
		} else {
			e.s.RFLAGS &^= flagZF
			e.writeReg(regRAX, half, old[0])
			e.writeReg(regRDX, half, old[1])
		}
		return true
	}
	return e.again()
}

// exchangeWide replaces two halves that were read.
func (e *Emulator) exchangeWide(sp *span, half int, before, after [2]uint64) (done, ok bool) {
	lock := e.in.lock && !sp.device()
	switch {
	case lock && half == 4:
		return e.exchange(sp, before[0]|before[1]<<32, after[0]|after[1]<<32, true)
	case lock:
		done, ok = e.mem.CompareAndSwap16(sp.parts[0].gpa, before, after)
		if !ok {
			return false, e.refuse(ReasonSplitLock)
		}
		return done, true
	}
	putInt(e.buf[:half], after[0])
	putInt(e.buf[half:2*half], after[1])
	return true, e.store(sp)
}
