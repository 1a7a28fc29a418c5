package x86emu

// operands sets the sizes and parses ModRM, SIB, displacement and immediate.
func (in *instruction) operands() {
	in.sizes()
	switch in.form {
	case formEG, formGE, formE, formVE:
		in.modRM()
	case formEI8:
		in.modRM()
		in.literal = in.immediate(1)
	case formEI:
		in.modRM()
		in.literal = in.immediate(min(in.size, 4))
	case formAI, formI:
		in.literal = in.immediate(min(in.size, 4))
	case formI8:
		in.literal = in.immediate(1)
	case formReg:
		in.reg = in.opcode&7 | in.rex&1<<3
	case formAO, formOA:
		in.displacement = truncate(in.immediate(in.address), in.address)
		in.memory, in.memSegment = true, in.segmentOr(segDS)
	case formNone, formGroup:
	}
	if in.st != statusOK {
		return
	}
	in.checkVEX()
	switch {
	case in.flags&flagMem != 0 && !in.memory:
		in.set(statusUndefined)
	case in.flags&flagMemSup != 0 && !in.memory:
		in.set(statusUnsupported)
	case in.op == OpMOVSEG && in.reg&7 > segGS:
		in.set(statusUndefined)
	case in.lock && !in.lockable():
		in.set(statusUndefined)
	case in.mode == mode64 && in.op66 && (in.op == OpCALL || in.op == OpJMP):
		in.set(statusUnsupported) // Intel ignores 66h, AMD does not
	}
}

// lockable tells whether LOCK fits: the destination is memory and the
// operation is in the list of SDM vol. 2, "LOCK".
func (in *instruction) lockable() bool { return in.flags&flagLock != 0 && in.memory }

// sizes sets operand and address size (Intel SDM vol. 1 §3.6, vol. 2 §2.2.1.2).
func (in *instruction) sizes() {
	in.size, in.address = 2, 2
	if in.mode == mode32 != in.op66 {
		in.size = 4
	}
	if in.mode == mode32 != in.op67 {
		in.address = 4
	}
	if in.mode == mode64 {
		in.size, in.address = 4, 8
		if in.op67 {
			in.address = 4
		}
		switch {
		case in.rex&8 != 0, in.op == OpCALL, in.op == OpJMP:
			in.size = 8
		case in.op66:
			in.size = 2
		case in.flags&flag64 != 0:
			in.size = 8
		}
	}
	switch {
	case in.flags&flagByte != 0:
		in.size = 1
	case (in.op == OpINS || in.op == OpOUTS) && in.size == 8:
		in.size = 4
	case in.op == OpMOV && in.opcode == 0xC3 && in.size == 2:
		in.size = 4 // MOVNTI has no 16-bit form, not even in 16-bit code
	}
	in.srcSize = in.size
	switch {
	case in.flags&flagSrc8 != 0:
		in.srcSize = 1
	case in.flags&flagSrc16 != 0:
		in.srcSize = 2
	case in.flags&flagSrc32 != 0:
		in.srcSize = min(in.size, 4)
	}
}

// segmentOr returns the override, or the default.
func (in *instruction) segmentOr(seg uint8) uint8 {
	if in.segment != segNone {
		return in.segment
	}
	return seg
}

// modRM parses ModRM and what follows it (Intel SDM vol. 2 tables 2-1 to 2-3).
func (in *instruction) modRM() {
	b := in.next()
	in.mod, in.reg, in.rm = b>>6, b>>3&7|in.rex&4<<1, b&7
	in.memSegment = segDS
	if in.mod == 3 {
		in.rm |= in.rex & 1 << 3
		return
	}
	in.memory = true
	if in.address == 2 {
		in.modRM16()
	} else {
		in.modRM32()
	}
	in.memSegment = in.segmentOr(in.memSegment)
}

// pairs are the base and index registers of 16-bit addresses.
var pairs = [8][2]uint8{
	{regRBX, regRSI},
	{regRBX, regRDI},
	{regRBP, regRSI},
	{regRBP, regRDI},
	{regRSI, noRegister},
	{regRDI, noRegister},
	{regRBP, noRegister},
	{regRBX, noRegister},
}

// modRM16 parses the address of 16-bit addressing.
func (in *instruction) modRM16() {
	in.base, in.index = pairs[in.rm][0], pairs[in.rm][1]
	switch {
	case in.mod == 0 && in.rm == 6:
		in.base = noRegister
		in.displacement = in.immediate(2)
	case in.mod == 1:
		in.displacement = in.immediate(1)
	case in.mod == 2:
		in.displacement = in.immediate(2)
	}
	if in.base == regRBP {
		in.memSegment = segSS
	}
}

// modRM32 parses the address of 32- and 64-bit addressing.
func (in *instruction) modRM32() {
	base := in.rm
	if in.rm == regRSP {
		sib := in.next()
		in.scale = sib >> 6
		base = sib & 7
		if i := sib>>3&7 | in.rex&2<<2; i != regRSP {
			in.index = i
		}
	}
	switch {
	case in.mod == 0 && base == regRBP:
		in.relative = in.rm == regRBP && in.mode == mode64
		in.displacement = in.immediate(4)
		return
	case in.mod == 1:
		in.displacement = in.immediate(1)
	case in.mod == 2:
		in.displacement = in.immediate(4)
	}
	in.base = base | in.rex&1<<3
	if in.base == regRSP || in.base == regRBP {
		in.memSegment = segSS
	}
}
