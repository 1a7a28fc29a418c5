package acpi

import (
	"fmt"
	"math/bits"
)

// Opcodes of AML (ACPI §20.2).
const (
	opZero       = 0x00
	opOne        = 0x01
	opName       = 0x08
	opByte       = 0x0a
	opWord       = 0x0b
	opDWord      = 0x0c
	opString     = 0x0d
	opQWord      = 0x0e
	opScope      = 0x10
	opBuffer     = 0x11
	opPackage    = 0x12
	opExt        = 0x5b
	opExtDevice  = 0x82
	amlRoot      = `\`
	nameSegSize  = 4
	oneByteLen   = 0x3f // largest package length in one byte
	lenNibble    = 0x0f
	lenCountBits = 6
)

// term is a piece of AML.
type term []byte

func concat(parts ...term) term {
	var out term
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// integer encodes n in the fewest bytes (ACPI §20.2.3).
func integer(n uint64) term {
	switch {
	case n == 0:
		return term{opZero}
	case n == 1:
		return term{opOne}
	case n <= 0xff:
		return term{opByte, byte(n)}
	case n <= 0xffff:
		return le.AppendUint16(term{opWord}, uint16(n))
	case n <= 0xffff_ffff:
		return le.AppendUint32(term{opDWord}, uint32(n))
	}
	return le.AppendUint64(term{opQWord}, n)
}

func text(s string) term { return append(append(term{opString}, s...), 0) }

// eisaID encodes an identifier like "PNP0A08" (ACPI §19.3.4, EISAID): three
// letters of five bits and four hex digits, big-endian.
func eisaID(id string) term {
	var product uint32
	for _, c := range []byte(id[3:7]) {
		digit := uint32(c - '0')
		if c >= 'A' {
			digit = uint32(c-'A') + 10
		}
		product = product<<4 | digit
	}
	letter := func(i int) uint32 { return uint32(id[i]-'@') & 0x1f }
	v := letter(0)<<26 | letter(1)<<21 | letter(2)<<16 | product
	return integer(uint64(bits.ReverseBytes32(v)))
}

// nameString encodes one segment, at the root with a leading backslash
// (ACPI §20.2.2). Short names are filled up with underscores.
func nameString(name string) term {
	var t term
	if name[:1] == amlRoot {
		t, name = term(amlRoot), name[1:]
	}
	return append(t, fmt.Sprintf("%s____", name)[:nameSegSize]...)
}

// name declares a named object.
func name(n string, value term) term { return concat(term{opName}, nameString(n), value) }

func scope(n string, body ...term) term {
	return concat(term{opScope}, sized(concat(nameString(n), concat(body...))))
}

func device(n string, body ...term) term {
	return concat(term{opExt, opExtDevice}, sized(concat(nameString(n), concat(body...))))
}

func pkg(elements ...term) term {
	return concat(term{opPackage}, sized(append(term{byte(len(elements))}, concat(elements...)...)))
}

func buffer(data []byte) term {
	return concat(term{opBuffer}, sized(concat(integer(uint64(len(data))), data)))
}

// sized puts a package length before body (ACPI §20.2.4). The length counts
// itself: one byte up to 63, else the low four bits in the first byte, whose
// upper two count the bytes that follow.
func sized(body term) term {
	if n := len(body) + 1; n <= oneByteLen {
		return append(term{byte(n)}, body...)
	}
	extra := 1
	for (len(body)+1+extra)>>(4+8*extra) != 0 {
		extra++
	}
	n := len(body) + 1 + extra
	out := term{byte(extra<<lenCountBits | n&lenNibble)}
	for i := range extra {
		out = append(out, byte(n>>(4+8*i)))
	}
	return append(out, body...)
}
