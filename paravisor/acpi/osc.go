package acpi

// Opcodes that only methods need (ACPI §20.2.5).
const (
	opMethod      = 0x14
	opLocal0      = 0x60
	opArg0        = 0x68
	opArg3        = 0x6b
	opStore       = 0x70
	opAnd         = 0x7b
	opOr          = 0x7d
	opDWordField  = 0x8a
	opLNot        = 0x92
	opLEqual      = 0x93
	opIf          = 0xa0
	opElse        = 0xa1
	opReturn      = 0xa4
	serialized    = 1 << 3 // in a method's flags, beside its number of arguments
	oscArguments  = 4
	oscUnknown    = 1 << 2 // status: the UUID is not known
	oscMasked     = 1 << 4 // status: not all that was asked for is granted
	oscCapability = 1 << 4 // control: PCI Express capability structures
	oscControlAt  = 8      // offset of the control field in the argument's buffer
)

// oscUUID is 33DB4D5B-1FF7-401C-9657-7441C03DD766, as ToUUID encodes it
// (ACPI §19.6.142).
var oscUUID = []byte{
	0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40, 0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66,
}

// osc returns the method that each PCI Express host bridge must have (PCI
// Firmware 3.3 §4.5.1). It grants the capability structures, which firmware
// never touches. Hot plug, power events and error reports do not exist.
func osc() term {
	status, control := nameString("STAT"), nameString("CTRL")
	field := func(at uint64, name term) term {
		return concat(term{opDWordField, opArg3}, integer(at), name)
	}
	or := func(name term, bits uint64) term { return concat(term{opOr}, name, integer(bits), name) }
	block := func(op byte, body ...term) term { return concat(term{op}, sized(concat(body...))) }
	return block(opMethod,
		nameString("_OSC"), term{serialized | oscArguments},
		field(0, status),
		block(opIf, term{opLEqual, opArg0}, buffer(oscUUID),
			field(oscControlAt, control),
			term{opAnd}, control, integer(oscCapability), term{opLocal0},
			block(opIf, term{opLNot, opLEqual, opLocal0}, control,
				or(status, oscMasked),
				term{opStore, opLocal0}, control)),
		block(opElse, or(status, oscUnknown)),
		term{opReturn, opArg3})
}
