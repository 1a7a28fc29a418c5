package x86emu

// vexEntry parses a VEX prefix and finds the entry (Intel SDM vol. 2 §2.3.5).
func (in *instruction) vexEntry(first uint8) {
	if in.mode != mode64 {
		// Outside of 64-bit mode these are LES and LDS, whose register forms do
		// not exist and make room for VEX.
		if in.pos >= in.have {
			in.set(statusShort)
			return
		}
		if in.code[in.pos]>>6 != 3 {
			in.set(statusUnsupported)
			return
		}
	}
	if in.lock || in.rep || in.repne || in.op66 || in.rex != 0 {
		in.set(statusUndefined)
		return
	}
	b := in.next()
	in.vexMap = 1
	rex := ^b >> 5 & 4 // R
	if first == 0xC4 {
		rex = ^b >> 5 & 7 // R, X, B
		in.vexMap = b & 0x1F
		b = in.next()
		rex |= b >> 4 & 8 // W
	}
	if in.mode == mode64 {
		in.rex = 0x40 | rex
	} else {
		in.rex = 0x40 | rex&8
	}
	in.vex, in.vexWide, in.vexV = true, b&4 != 0, ^b>>3&0xF
	in.mandatory = b & 3
	in.opcode = in.next()
	switch {
	case in.vexMap == 1:
		in.entry = vectors[in.opcode][in.mandatory]
	case in.vexMap == 2 && in.opcode == 0x2A && in.mandatory == prefix66:
		in.entry = movntdqa
	}
	switch {
	case in.st != statusOK:
	case in.flags&flagVEX == 0:
		in.set(statusUnsupported)
	case in.vexWide && in.flags&flagL0 != 0:
		in.set(statusUndefined)
	}
}

// checkVEX applies what depends on the operands: moves of two operands leave
// vvvv unused, and the scalar moves between registers have three.
func (in *instruction) checkVEX() {
	switch {
	case !in.vex:
	case (in.op == OpMOVSS || in.op == OpMOVSD) && !in.memory:
		in.set(statusUnsupported)
	case in.vexV != 0:
		in.set(statusUndefined)
	}
}
