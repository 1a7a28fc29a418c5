package x86emu

// execute runs the decoded instruction and advances RIP. It changes registers
// only once nothing can fail any more.
func (e *Emulator) execute() bool {
	switch e.in.op {
	case OpMOVS, OpCMPS, OpSTOS, OpLODS, OpSCAS, OpINS, OpOUTS:
		return e.strings()
	case OpCALL, OpJMP:
		return e.branch()
	default:
	}
	if !e.operate() {
		return false
	}
	e.advance()
	return true
}

// operate runs an instruction that goes on to the next one.
func (e *Emulator) operate() bool {
	switch e.in.op {
	case OpADD, OpOR, OpADC, OpSBB, OpAND, OpSUB, OpXOR, OpCMP, OpTEST, OpINC, OpDEC, OpNOT, OpNEG, OpXCHG, OpXADD:
		return e.arithmetic()
	case OpMOV, OpMOVZX, OpMOVSX, OpMOVBE, OpMOVSEG:
		return e.move()
	case OpCMOV, OpSET:
		return e.conditional()
	case OpBT, OpBTS, OpBTR, OpBTC:
		return e.bitTest()
	case OpCMPXCHG:
		return e.compareExchange()
	case OpCMPXCHGxB:
		return e.compareExchangeWide()
	case OpPUSH:
		return e.push()
	case OpPOP:
		return e.popTo()
	default:
		return e.vectorMove()
	}
}

// move runs MOV and its kin.
func (e *Emulator) move() bool {
	in := &e.in
	switch in.form {
	case formGE, formAO:
		return e.moveLoad()
	default:
		return e.moveStore()
	}
}

// moveLoad runs the moves into a register.
func (e *Emulator) moveLoad() bool {
	in := &e.in
	src, ok := e.rmOperand(in.srcSize, false)
	if !ok || !e.commit() {
		return false
	}
	v, ok := e.read(&src)
	if !ok {
		return false
	}
	switch in.op {
	case OpMOVSX:
		v = signExtend(v, in.srcSize)
	case OpMOVBE:
		v = swapBytes(v, in.size)
	default:
	}
	e.writeReg(in.reg, in.size, v) // the accumulator with moffs
	return true
}

// moveStore runs the moves to r/m.
func (e *Emulator) moveStore() bool {
	in := &e.in
	n := in.size
	var v uint64
	switch {
	case in.op == OpMOVSEG:
		v = uint64(e.s.Segments[in.reg&7].Selector)
		if in.memory {
			n = 2
		}
	case in.form == formEI:
		v = in.literal
	default:
		v = e.readReg(in.reg, n)
	}
	if in.op == OpMOVBE {
		v = swapBytes(v, n)
	}
	dst, ok := e.rmOperand(n, true)
	if !ok || !e.commit() {
		return false
	}
	return e.write(&dst, v)
}

// conditional runs CMOVcc, which reads its source always, and SETcc.
func (e *Emulator) conditional() bool {
	in := &e.in
	met := condition(in.opcode, e.s.RFLAGS)
	rm, ok := e.rmOperand(in.size, in.op == OpSET)
	if !ok || !e.commit() {
		return false
	}
	if in.op == OpSET {
		var v uint64
		if met {
			v = 1
		}
		return e.write(&rm, v)
	}
	v, ok := e.read(&rm)
	if !ok {
		return false
	}
	if !met {
		v = e.readReg(in.reg, in.size)
	}
	e.writeReg(in.reg, in.size, v)
	return true
}
