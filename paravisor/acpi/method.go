package acpi

// Opcodes that methods and operation regions need (ACPI §20.2.3, §20.2.5).
const (
	opMethod       = 0x14
	opLocal0       = 0x60
	opArg0         = 0x68
	opArg1         = 0x69
	opArg2         = 0x6a
	opArg3         = 0x6b
	opStore        = 0x70
	opAdd          = 0x72
	opAnd          = 0x7b
	opOr           = 0x7d
	opDerefOf      = 0x83
	opSizeOf       = 0x87
	opIndex        = 0x88
	opDWordField   = 0x8a
	opLNot         = 0x92
	opLEqual       = 0x93
	opLGreater     = 0x94
	opLLess        = 0x95
	opIf           = 0xa0
	opElse         = 0xa1
	opReturn       = 0xa4
	opExtRegion    = 0x80 // behind opExt
	opExtField     = 0x81 // behind opExt
	opNullTarget   = 0x00
	serialized     = 1 << 3 // in a method's flags, beside its number of arguments
	regionMemory   = 0x00
	fieldByteWide  = 0x01 // access type: bytes
	fieldReserved  = 0x00 // a gap
	bitsPerByte    = 8
	fieldShortBits = 0x3f // largest width that takes one byte to encode
)

// block returns an opcode with a package length and what belongs to it.
func block(op byte, body ...term) term { return concat(term{op}, sized(concat(body...))) }

// method declares a method that runs for one caller at a time.
func method(n string, arguments byte, body ...term) term {
	return block(opMethod, nameString(n), term{serialized | arguments}, concat(body...))
}

// when is a statement that runs if a condition holds.
func when(condition term, body ...term) term { return block(opIf, condition, concat(body...)) }

func otherwise(body ...term) term { return block(opElse, body...) }

func returning(value term) term { return concat(term{opReturn}, value) }

func equal(a, b term) term { return concat(term{opLEqual}, a, b) }

func less(a, b term) term { return concat(term{opLLess}, a, b) }

func greater(a, b term) term { return concat(term{opLGreater}, a, b) }

func not(a term) term { return concat(term{opLNot}, a) }

func store(value, target term) term { return concat(term{opStore}, value, target) }

// element is a reference to an element of a package.
func element(pkg term, index uint64) term {
	return concat(term{opIndex}, pkg, integer(index), term{opNullTarget})
}

// valueAt is the value of an element of a package.
func valueAt(pkg term, index uint64) term { return concat(term{opDerefOf}, element(pkg, index)) }

// call calls a method.
func call(n string, arguments ...term) term { return concat(nameString(n), concat(arguments...)) }

// memoryRegion declares size bytes of memory at an address that is known when the
// declaration is executed.
func memoryRegion(n string, address term, size uint64) term {
	return concat(term{opExt, opExtRegion}, nameString(n), term{regionMemory}, address, integer(size))
}

// field is a named number in a region.
type field struct {
	name string
	at   int // offset in the region in bytes
	size int // in bytes
}

// fields declares numbers in a region, in the order of their offsets, that are accessed
// byte by byte.
func fields(region string, list ...field) term {
	body := append(nameString(region), fieldByteWide)
	end := 0
	for _, f := range list {
		if f.at > end {
			body = append(append(body, fieldReserved), fieldWidth((f.at-end)*bitsPerByte)...)
		}
		body = append(append(body, nameString(f.name)...), fieldWidth(f.size*bitsPerByte)...)
		end = f.at + f.size
	}
	return concat(term{opExt, opExtField}, sized(body))
}

// fieldWidth encodes a number of bits as a package length is encoded (ACPI §20.2.4),
// except that it does not count itself.
func fieldWidth(bits int) term {
	if bits <= fieldShortBits {
		return term{byte(bits)}
	}
	extra := 1
	for bits>>(4+bitsPerByte*extra) != 0 {
		extra++
	}
	t := term{byte(extra<<lenCountBits | bits&lenNibble)}
	for i := range extra {
		t = append(t, byte(bits>>(4+bitsPerByte*i)))
	}
	return t
}
