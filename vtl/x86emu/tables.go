package x86emu

// aluForms are the columns of opcodes 00h to 3Fh: operation times eight plus
// the column (Intel SDM vol. 2 appendix A, table A-2).
var aluForms = [6]entry{
	{form: formEG, flags: flagByte | flagLock},
	{form: formEG, flags: flagLock},
	{form: formGE, flags: flagByte},
	{form: formGE},
	{form: formAI, flags: flagByte},
	{form: formAI},
}

// oneByte holds the opcodes from 40h on. A missing row is an instruction out
// of scope.
var oneByte = [256]entry{
	0x63: {OpMOVSX, formGE, flagSrc32 | flagOnly64, 0},
	0x68: {OpPUSH, formI, flag64, 0},
	0x6A: {OpPUSH, formI8, flag64, 0},
	0x6C: {OpINS, formNone, flagByte, 0},
	0x6D: {OpINS, formNone, 0, 0},
	0x6E: {OpOUTS, formNone, flagByte, 0},
	0x6F: {OpOUTS, formNone, 0, 0},
	0x80: {OpADD, formGroup, flagByte, group1},
	0x81: {OpADD, formGroup, 0, group1Wide},
	0x82: {OpADD, formGroup, flagByte | flagNo64, group1},
	0x83: {OpADD, formGroup, 0, group1},
	0x84: {OpTEST, formEG, flagByte, 0},
	0x85: {OpTEST, formEG, 0, 0},
	0x86: {OpXCHG, formEG, flagByte | flagLock, 0},
	0x87: {OpXCHG, formEG, flagLock, 0},
	0x88: {OpMOV, formEG, flagByte, 0},
	0x89: {OpMOV, formEG, 0, 0},
	0x8A: {OpMOV, formGE, flagByte, 0},
	0x8B: {OpMOV, formGE, 0, 0},
	0x8C: {OpMOVSEG, formE, 0, 0},
	0x8F: {OpPOP, formGroup, 0, group1A},
	0xA0: {OpMOV, formAO, flagByte, 0},
	0xA1: {OpMOV, formAO, 0, 0},
	0xA2: {OpMOV, formOA, flagByte, 0},
	0xA3: {OpMOV, formOA, 0, 0},
	0xA4: {OpMOVS, formNone, flagByte, 0},
	0xA5: {OpMOVS, formNone, 0, 0},
	0xA6: {OpCMPS, formNone, flagByte, 0},
	0xA7: {OpCMPS, formNone, 0, 0},
	0xA8: {OpTEST, formAI, flagByte, 0},
	0xA9: {OpTEST, formAI, 0, 0},
	0xAA: {OpSTOS, formNone, flagByte, 0},
	0xAB: {OpSTOS, formNone, 0, 0},
	0xAC: {OpLODS, formNone, flagByte, 0},
	0xAD: {OpLODS, formNone, 0, 0},
	0xAE: {OpSCAS, formNone, flagByte, 0},
	0xAF: {OpSCAS, formNone, 0, 0},
	0xC6: {OpMOV, formGroup, flagByte, group11},
	0xC7: {OpMOV, formGroup, 0, group11},
	0xF6: {OpTEST, formGroup, flagByte, group3},
	0xF7: {OpTEST, formGroup, 0, group3},
	0xFE: {OpINC, formGroup, flagByte, group4},
	0xFF: {OpINC, formGroup, 0, group5},
}

// undefined64 are the one-byte opcodes that 64-bit mode leaves undefined and
// that are out of scope elsewhere (SDM vol. 2 table A-2, superscript i64).
var undefined64 = [256]bool{
	0x06: true, 0x07: true, 0x0E: true, 0x16: true, 0x17: true, 0x1E: true, 0x1F: true, 0x27: true, 0x2F: true, 0x37: true,
	0x3F: true, 0x60: true, 0x61: true, 0x9A: true, 0xCE: true, 0xD4: true, 0xD6: true, 0xEA: true,
}

// twoByte holds the opcodes after 0Fh (SDM vol. 2 table A-3).
var twoByte = [256]entry{
	0x04: {op: opUndefined}, 0x0A: {op: opUndefined}, 0x0B: {op: opUndefined}, 0x0C: {op: opUndefined},
	0x36: {op: opUndefined}, 0x39: {op: opUndefined}, 0xB9: {op: opUndefined}, 0xFF: {op: opUndefined},
	0xA3: {OpBT, formEG, 0, 0},
	0xAB: {OpBTS, formEG, flagLock, 0},
	0xB0: {OpCMPXCHG, formEG, flagByte | flagLock, 0},
	0xB1: {OpCMPXCHG, formEG, flagLock, 0},
	0xB3: {OpBTR, formEG, flagLock, 0},
	0xB6: {OpMOVZX, formGE, flagSrc8, 0},
	0xB7: {OpMOVZX, formGE, flagSrc16, 0},
	0xBA: {OpBT, formGroup, 0, group8},
	0xBB: {OpBTC, formEG, flagLock, 0},
	0xBE: {OpMOVSX, formGE, flagSrc8, 0},
	0xBF: {OpMOVSX, formGE, flagSrc16, 0},
	0xC0: {OpXADD, formEG, flagByte | flagLock, 0},
	0xC1: {OpXADD, formEG, flagLock, 0},
	0xC3: {OpMOV, formEG, flagMem, 0}, // MOVNTI
	0xC7: {OpCMPXCHGxB, formGroup, 0, group9},
}

// The opcode extensions in ModRM.reg (SDM vol. 2 table A-6).
const (
	group1 = iota
	group1Wide
	group1A
	group3
	group4
	group5
	group8
	group9
	group11
	groupCount
)

var groups = [groupCount][8]entry{
	group1:     aluGroup(formEI8),
	group1Wide: aluGroup(formEI),
	group1A:    {{OpPOP, formE, flag64, 0}, {op: opUndefined}, {op: opUndefined}, {op: opUndefined}, {op: opUndefined}, {op: opUndefined}, {op: opUndefined}, {op: opUndefined}},
	group3:     {{OpTEST, formEI, 0, 0}, {OpTEST, formEI, 0, 0}, {OpNOT, formE, flagLock, 0}, {OpNEG, formE, flagLock, 0}},
	group4: {
		{OpINC, formE, flagLock, 0},
		{OpDEC, formE, flagLock, 0},
		{op: opUndefined},
		{op: opUndefined},
		{op: opUndefined},
		{op: opUndefined},
		{op: opUndefined},
		{op: opUndefined},
	},
	group5: {
		{OpINC, formE, flagLock, 0},
		{OpDEC, formE, flagLock, 0},
		{OpCALL, formE, flag64, 0},
		{},
		{OpJMP, formE, flag64, 0},
		{},
		{OpPUSH, formE, flag64, 0},
		{op: opUndefined},
	},
	group8: {
		{op: opUndefined},
		{op: opUndefined},
		{op: opUndefined},
		{op: opUndefined},
		{OpBT, formEI8, 0, 0},
		{OpBTS, formEI8, flagLock, 0},
		{OpBTR, formEI8, flagLock, 0},
		{OpBTC, formEI8, flagLock, 0},
	},
	group9: {{op: opUndefined}, {OpCMPXCHGxB, formE, flagLock | flagMem, 0}, {op: opUndefined}},
	group11: {
		{OpMOV, formEI, 0, 0},
		{op: opUndefined},
		{op: opUndefined},
		{op: opUndefined},
		{op: opUndefined},
		{op: opUndefined},
		{op: opUndefined},
		{},
	},
}

// aluGroup returns the eight operations on r/m and an immediate.
func aluGroup(f form) (g [8]entry) {
	for i := range g {
		g[i] = entry{Op(i), f, flagLock, 0}
	}
	g[OpCMP].flags = 0
	return g
}
