package acpi

const (
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
	return method("_OSC", oscArguments,
		field(0, status),
		when(equal(term{opArg0}, buffer(oscUUID)),
			field(oscControlAt, control),
			term{opAnd}, control, integer(oscCapability), term{opLocal0},
			when(not(equal(term{opLocal0}, control)),
				or(status, oscMasked),
				store(term{opLocal0}, control))),
		otherwise(or(status, oscUnknown)),
		returning(term{opArg3}))
}
