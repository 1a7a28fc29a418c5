package acpi

import (
	"bytes"
	"testing"
)

func TestInteger(t *testing.T) {
	for _, c := range []struct {
		n    uint64
		want []byte
	}{
		{0, []byte{0x00}},
		{1, []byte{0x01}},
		{2, []byte{0x0a, 2}},
		{0xff, []byte{0x0a, 0xff}},
		{0x100, []byte{0x0b, 0, 1}},
		{0x1_0000, []byte{0x0c, 0, 0, 1, 0}},
		{0x1_0000_0000, []byte{0x0e, 0, 0, 0, 0, 1, 0, 0, 0}},
	} {
		if got := integer(c.n); !bytes.Equal(got, c.want) {
			t.Errorf("integer(%#x) = %x, want %x", c.n, got, c.want)
		}
	}
}

// The examples of the length encoding of ACPI §20.2.4 at its boundaries.
func TestSized(t *testing.T) {
	for _, c := range []struct {
		body int
		want []byte
	}{
		{0, []byte{1}},
		{62, []byte{63}},
		{63, []byte{0x41, 0x04}},
		{4093, []byte{0x4f, 0xff}},
		{4094, []byte{0x81, 0x00, 0x01}},
		{1<<20 - 4, []byte{0x8f, 0xff, 0xff}},
		{1<<20 - 3, []byte{0xc1, 0x00, 0x00, 0x01}},
	} {
		got := sized(make(term, c.body))
		if !bytes.Equal(got[:len(got)-c.body], c.want) {
			t.Errorf("%d bytes: length %x, want %x", c.body, got[:len(got)-c.body], c.want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		got  term
		want string
	}{
		{nameString("PCI0"), "PCI0"},
		{nameString("RTC"), "RTC_"},
		{nameString(`\_SB`), `\_SB_`},
		{eisaID("PNP0A08"), "\x0c\x41\xd0\x0a\x08"},
		{eisaID("PNP0000"), "\x0b\x41\xd0"},
		{eisaID("PNP0C0F"), "\x0c\x41\xd0\x0c\x0f"},
		{text("ACPI0007"), "\x0dACPI0007\x00"},
	} {
		if string(c.got) != c.want {
			t.Errorf("got %x, want %x", []byte(c.got), c.want)
		}
	}
}
