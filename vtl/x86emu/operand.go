package x86emu

// operand is the r/m operand of an instruction.
type operand struct {
	memory bool
	reg    uint8
	n      int
	span
}

// rmOperand resolves r/m with n bytes. Memory is translated for the access.
func (e *Emulator) rmOperand(n int, write bool) (operand, bool) {
	if !e.in.memory {
		return operand{reg: e.in.rm, n: n}, true
	}
	return e.memoryOperand(e.effective(), n, write)
}

// memoryOperand translates n bytes at an offset in the operand's segment.
func (e *Emulator) memoryOperand(offset uint64, n int, write bool) (operand, bool) {
	sp, ok := e.translate(e.in.memSegment, offset, n, access{write: write})
	return operand{memory: true, n: n, span: sp}, ok
}

// read returns the operand's value.
func (e *Emulator) read(o *operand) (uint64, bool) {
	if o.memory {
		return e.loadInt(&o.span)
	}
	return e.readReg(o.reg, o.n), true
}

// write replaces the operand's value.
func (e *Emulator) write(o *operand, v uint64) bool {
	if o.memory {
		return e.storeInt(&o.span, v)
	}
	e.writeReg(o.reg, o.n, v)
	return true
}

// high tells whether a byte register is AH, CH, DH or BH (SDM vol. 2 §2.2.1.2).
func (e *Emulator) high(reg uint8, n int) bool {
	return n == 1 && e.in.rex == 0 && reg >= 4 && reg < 8
}

// readReg reads a general-purpose register.
func (e *Emulator) readReg(reg uint8, n int) uint64 {
	if e.high(reg, n) {
		return e.s.GPR[reg-4] >> 8 & 0xFF
	}
	return truncate(e.s.GPR[reg], n)
}

// writeReg writes a general-purpose register. 32 bits clear the upper half, 8
// and 16 keep the rest (Intel SDM vol. 1 §3.4.1.1).
func (e *Emulator) writeReg(reg uint8, n int, v uint64) {
	if e.high(reg, n) {
		r := &e.s.GPR[reg-4]
		*r = *r&^0xFF00 | v&0xFF<<8
		return
	}
	e.s.GPR[reg] = merge(e.s.GPR[reg], v, n)
}

// merge puts the low n bytes of v into a register's value.
func merge(old, v uint64, n int) uint64 {
	if n >= 4 {
		return truncate(v, n)
	}
	mask := truncate(^uint64(0), n)
	return old&^mask | v&mask
}
