package x86emu

import "keel/hcl"

// push runs PUSH of r/m, a register or an immediate. The source is read with
// the old stack pointer (SDM vol. 2, "PUSH").
func (e *Emulator) push() bool {
	in := &e.in
	n := in.size
	v := in.literal
	var rm operand
	switch in.form {
	case formE:
		var ok bool
		if rm, ok = e.rmOperand(n, false); !ok {
			return false
		}
	case formReg:
		v = e.readReg(in.reg, n)
	default:
	}
	sp, stack, ok := e.stackTop(n)
	if !ok || !e.commit() {
		return false
	}
	if in.form == formE {
		if v, ok = e.read(&rm); !ok {
			return false
		}
	}
	if !e.storeInt(&stack, v) {
		return false
	}
	e.setSP(sp)
	return true
}

// stackTop translates the n bytes below the stack pointer for a push.
func (e *Emulator) stackTop(n int) (sp uint64, stack span, ok bool) {
	w := e.stackWidth()
	sp = truncate(e.s.GPR[regRSP]-uint64(n), w)
	stack, ok = e.translate(segSS, sp, n, access{write: true})
	return sp, stack, ok
}

// setSP replaces as much of RSP as the stack's width says.
func (e *Emulator) setSP(sp uint64) {
	e.s.GPR[regRSP] = merge(e.s.GPR[regRSP], sp, e.stackWidth())
}

// popTo runs POP to r/m or a register. An address with RSP sees the new value,
// and a popped RSP wins over it (SDM vol. 2, "POP").
func (e *Emulator) popTo() bool {
	in := &e.in
	n, w := in.size, e.stackWidth()
	old := truncate(e.s.GPR[regRSP], w)
	stack, ok := e.translate(segSS, old, n, access{})
	if !ok {
		return false
	}
	sp := truncate(old+uint64(n), w)
	e.pop, e.popSP = true, merge(e.s.GPR[regRSP], sp, w)
	dst := operand{reg: in.reg, n: n}
	if in.form == formE {
		if dst, ok = e.rmOperand(n, true); !ok {
			return false
		}
	}
	if !e.commit() {
		return false
	}
	v, ok := e.loadInt(&stack)
	if !ok {
		return false
	}
	if dst.memory && !e.write(&dst, v) {
		return false
	}
	e.setSP(sp)
	if !dst.memory {
		e.writeReg(dst.reg, n, v)
	}
	return true
}

// branch runs the near indirect CALL and JMP. RAM is read early, so that a bad
// target comes before a page fault of the stack; a device is read only once
// nothing else can fault.
func (e *Emulator) branch() bool {
	in := &e.in
	if e.s.CR4&cr4CET != 0 { // shadow stack and branch tracking are not modelled
		return e.refuse(ReasonOpcode)
	}
	n := in.size
	rm, ok := e.rmOperand(n, false)
	if !ok {
		return false
	}
	late := rm.memory && rm.device()
	var target, sp uint64
	if !late {
		if target, ok = e.branchTarget(&rm); !ok {
			return false
		}
	}
	var stack span
	if in.op == OpCALL {
		if sp, stack, ok = e.stackTop(n); !ok {
			return false
		}
	}
	if !e.commit() {
		return false
	}
	if late {
		if target, ok = e.branchTarget(&rm); !ok {
			return false
		}
	}
	if in.op == OpCALL {
		if !e.storeInt(&stack, e.nextRIP()) {
			return false
		}
		e.setSP(sp)
	}
	e.s.RIP = target
	return true
}

// branchTarget reads and checks a new RIP.
func (e *Emulator) branchTarget(rm *operand) (uint64, bool) {
	target, ok := e.read(rm)
	if !ok {
		return 0, false
	}
	if e.in.mode == mode64 {
		if !e.s.canonical(target) {
			return 0, e.fault(vectorGP)
		}
	} else if cs := &e.s.Segments[segCS]; target > uint64(cs.Limit) && cs.Attributes&hcl.SegUnusable == 0 {
		return 0, e.fault(vectorGP)
	}
	return target, true
}
