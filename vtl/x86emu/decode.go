package x86emu

// status is what the decoder says of some bytes.
type status uint8

const (
	statusOK          status = iota
	statusShort              // more bytes are needed
	statusLong               // over 15 bytes: #GP(0)
	statusUndefined          // #UD
	statusUnsupported        // an instruction out of scope
)

// instruction is a decoded instruction.
type instruction struct {
	code [maxLength]byte
	have int // valid bytes in code
	pos  int // bytes consumed; the length in the end
	mode mode
	st   status

	rex               uint8
	lock, rep, repne  bool
	op66, op67        bool
	segment           uint8 // override, or segNone
	vex, vexWide      bool  // wide: VEX.L
	vexV              uint8 // VEX.vvvv, inverted back
	vexMap, mandatory uint8

	entry
	opcode  uint8
	size    int // operand bytes
	srcSize int // bytes of a narrower source, or size
	address int // address bytes

	mod, reg, rm          uint8 // reg and rm with their REX bits
	memory                bool
	base, index, scale    uint8 // noRegister where absent
	relative              bool  // to the next instruction
	displacement, literal uint64
	memSegment            uint8 // that the memory operand uses
}

const noRegister = 0xFF

// decode parses the bytes of in.code in the given mode. It reads nothing else.
func (in *instruction) decode(m mode) status {
	*in = instruction{code: in.code, have: in.have, mode: m, segment: segNone, base: noRegister, index: noRegister}
	op := in.prefixes()
	if in.st != statusOK {
		return in.st
	}
	in.opcodeEntry(op)
	if in.st == statusOK {
		in.operands()
	}
	return in.st
}

// next consumes a byte. Past the end it sets the status and returns zero, so
// that callers may go on and check later.
func (in *instruction) next() uint8 {
	if in.pos < in.have && in.pos < maxLength {
		b := in.code[in.pos]
		in.pos++
		return b
	}
	in.set(statusShort)
	return 0
}

// set records the first thing that ends decoding. Too few bytes are too many
// where 15 were there.
func (in *instruction) set(s status) {
	if in.st != statusOK {
		return
	}
	if s == statusShort && in.have >= maxLength {
		s = statusLong
	}
	in.st = s
}

// immediate consumes n bytes and sign-extends them.
func (in *instruction) immediate(n int) uint64 {
	var v uint64
	for i := range n {
		v |= uint64(in.next()) << (8 * i)
	}
	return signExtend(v, n)
}

// prefixes consumes legacy prefixes and REX and returns the byte after them
// (Intel SDM vol. 2 §2.1.1 and §2.2.1). REX counts only right before the opcode.
func (in *instruction) prefixes() uint8 {
	for {
		b := in.next()
		if in.mode == mode64 && b&0xF0 == 0x40 {
			in.rex = b
			continue
		}
		switch b {
		case 0xF0:
			in.lock = true
		case 0xF2:
			in.repne, in.rep = true, false
		case 0xF3:
			in.rep, in.repne = true, false
		case 0x66:
			in.op66 = true
		case 0x67:
			in.op67 = true
		case 0x26, 0x2E, 0x36, 0x3E:
			if in.mode != mode64 { // ignored there
				in.segment = segES + (b-0x26)>>3
			}
		case 0x64, 0x65:
			in.segment = segFS + b&1
		default:
			return b
		}
		in.rex = 0
	}
}

// opcodeEntry finds the table entry for what starts with byte op.
func (in *instruction) opcodeEntry(op uint8) {
	switch op {
	case 0x0F:
		in.escape()
	case 0xC4, 0xC5:
		in.vexEntry(op)
	default:
		in.opcode = op
		in.entry = in.lookup(op)
	}
	if in.form == formGroup && in.st == statusOK {
		in.groupEntry()
	}
	switch {
	case in.st != statusOK:
	case in.entry == entry{} || in.flags&flagOnly64 != 0 && in.mode != mode64:
		in.op = OpNone
		in.set(statusUnsupported)
	case in.op == opUndefined || in.flags&flagNo64 != 0 && in.mode == mode64:
		in.set(statusUndefined)
	}
}

// lookup returns the entry of a one-byte opcode.
func (in *instruction) lookup(op uint8) entry {
	switch {
	case op < 0x40 && op&7 < 6:
		e := aluForms[op&7]
		e.op = Op(op >> 3)
		if e.op == OpCMP {
			e.flags &^= flagLock
		}
		return e
	case op >= 0x50 && op < 0x58:
		return entry{OpPUSH, formReg, flag64, 0}
	case op >= 0x58 && op < 0x60:
		return entry{OpPOP, formReg, flag64, 0}
	case in.mode == mode64 && undefined64[op]:
		return entry{op: opUndefined}
	}
	return oneByte[op]
}

// escape finds the entry of an opcode after 0Fh.
func (in *instruction) escape() {
	op := in.next()
	in.opcode = op
	switch {
	case in.repne:
		in.mandatory = prefixF2
	case in.rep:
		in.mandatory = prefixF3
	case in.op66:
		in.mandatory = prefix66
	}
	switch {
	case op == 0x38:
		in.escape38()
	case op >= 0x40 && op < 0x50:
		in.entry = entry{OpCMOV, formGE, 0, 0}
	case op >= 0x90 && op < 0xA0:
		in.entry = entry{OpSET, formE, flagByte, 0}
	case twoByte[op] != entry{}:
		in.entry = twoByte[op]
		if op == 0xC3 && in.mandatory != prefixNone { // MOVNTI
			in.set(statusUndefined)
		}
	default:
		in.entry = vectors[op][in.mandatory]
	}
}

// escape38 finds the entry of an opcode after 0Fh 38h.
func (in *instruction) escape38() {
	op := in.next()
	in.opcode = op
	switch {
	case op == 0x2A && in.mandatory == prefix66:
		in.entry = movntdqa
	case op == 0xF0 && in.mandatory <= prefix66:
		in.entry = entry{OpMOVBE, formGE, flagMem, 0}
	case op == 0xF1 && in.mandatory <= prefix66:
		in.entry = entry{OpMOVBE, formEG, flagMem, 0}
	}
}

// groupEntry replaces the entry of a group by its member.
func (in *instruction) groupEntry() {
	if in.pos >= in.have {
		in.set(statusShort)
		return
	}
	m := in.code[in.pos] // consumed with the operands
	if in.opcode == 0x8F && m&0x1F >= 8 {
		in.entry = entry{} // XOP (AMD64 APM vol. 3 §1.9)
		return
	}
	outer := in.entry
	in.entry = groups[outer.group][m>>3&7]
	if in.op == opUndefined || in.entry == (entry{}) {
		if outer.group == group9 && m>>6 == 3 && m>>3&7 >= 6 {
			in.entry = entry{} // RDRAND, RDSEED, RDPID
		}
		return
	}
	in.flags |= outer.flags
}
