package x86emu

// Mandatory prefixes, as VEX.pp numbers them.
const (
	prefixNone = iota
	prefix66
	prefixF3
	prefixF2
)

// vectors holds the moves of opcode map 0Fh by mandatory prefix (SDM vol. 2
// table A-3). Flags tell what the VEX form allows.
var vectors = [256][4]entry{
	0x10: {
		{OpVMOV, formVE, flagVEX, 0},
		{OpVMOV, formVE, flagVEX, 0},
		{OpMOVSS, formVE, flagVEX | flagLIG, 0},
		{OpMOVSD, formVE, flagVEX | flagLIG, 0},
	},
	0x11: {
		{OpVMOV, formVE, flagVEX | flagStore, 0},
		{OpVMOV, formVE, flagVEX | flagStore, 0},
		{OpMOVSS, formVE, flagVEX | flagLIG | flagStore, 0},
		{OpMOVSD, formVE, flagVEX | flagLIG | flagStore, 0},
	},
	0x12: {{OpMOVLP, formVE, flagMemSup, 0}, {OpMOVLP, formVE, flagMem, 0}},
	0x13: {{OpMOVLP, formVE, flagMem | flagStore | flagVEX | flagL0, 0}, {OpMOVLP, formVE, flagMem | flagStore | flagVEX | flagL0, 0}},
	0x16: {{OpMOVHP, formVE, flagMemSup, 0}, {OpMOVHP, formVE, flagMem, 0}},
	0x17: {{OpMOVHP, formVE, flagMem | flagStore | flagVEX | flagL0, 0}, {OpMOVHP, formVE, flagMem | flagStore | flagVEX | flagL0, 0}},
	0x28: {{OpVMOVA, formVE, flagVEX | flagAlign, 0}, {OpVMOVA, formVE, flagVEX | flagAlign, 0}},
	0x29: {{OpVMOVA, formVE, flagVEX | flagAlign | flagStore, 0}, {OpVMOVA, formVE, flagVEX | flagAlign | flagStore, 0}},
	0x2B: { // MOVNTPS, MOVNTPD
		{OpVMOVA, formVE, flagVEX | flagAlign | flagStore | flagMem, 0},
		{OpVMOVA, formVE, flagVEX | flagAlign | flagStore | flagMem, 0},
	},
	0x6E: {prefix66: {OpMOVD, formVE, flagVEX | flagL0, 0}},
	0x6F: {prefix66: {OpVMOVA, formVE, flagVEX | flagAlign, 0}, prefixF3: {OpVMOV, formVE, flagVEX, 0}},
	0x7E: {prefix66: {OpMOVD, formVE, flagVEX | flagL0 | flagStore, 0}, prefixF3: {OpMOVQ, formVE, flagVEX | flagL0, 0}},
	0x7F: {prefix66: {OpVMOVA, formVE, flagVEX | flagAlign | flagStore, 0}, prefixF3: {OpVMOV, formVE, flagVEX | flagStore, 0}},
	0xD6: {prefix66: {OpMOVQ, formVE, flagVEX | flagL0 | flagStore, 0}},
	0xE7: {prefix66: {OpVMOVA, formVE, flagVEX | flagAlign | flagStore | flagMem, 0}}, // MOVNTDQ
	0xF0: {prefixF2: {OpVMOV, formVE, flagVEX | flagMem, 0}},                          // LDDQU
}

// movntdqa is 66 0F 38 2A, the one vector move in that map.
var movntdqa = entry{OpVMOVA, formVE, flagVEX | flagAlign | flagMem, 0}
