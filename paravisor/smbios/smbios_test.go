package smbios

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"keel/hcl/abi/x86"
)

func info() Info {
	return Info{
		Version:     "0.1",
		Date:        "01/02/2026",
		Serial:      "web",
		UUID:        [16]byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff},
		Sockets:     2,
		Cores:       4,
		Threads:     2,
		ProcessorID: 0x0789_abcd_0083_0f10,
		Processor:   "AMD EPYC-Rome Processor",
		RAM:         []Range{{0, 3 << 30}, {4 << 30, 1 << 30}},
	}
}

// parsed is a structure as a guest reads it.
type parsed struct {
	kind    byte
	handle  uint16
	data    []byte
	strings []string
}

// str returns the string whose number stands at the offset.
func (p parsed) str(at int) string {
	if n := int(p.data[at]); n > 0 && n <= len(p.strings) {
		return p.strings[n-1]
	}
	return ""
}

// parse reads the tables as DSP0134 §5.2.2 and §6.1 say.
func parse(t *testing.T, b []byte, base x86.GPA) []parsed {
	t.Helper()
	if string(b[:5]) != "_SM3_" || b[6] != 24 || b[7] != 3 {
		t.Fatalf("entry point %x", b[:24])
	}
	var sum byte
	for _, c := range b[:24] {
		sum += c
	}
	if sum != 0 {
		t.Errorf("the entry point sums to %#x", sum)
	}
	rest := b[le.Uint64(b[16:])-uint64(base):]
	if int(le.Uint32(b[12:])) != len(rest) {
		t.Errorf("the entry point says %d bytes, there are %d", le.Uint32(b[12:]), len(rest))
	}
	var list []parsed
	for len(rest) > 0 {
		size := int(rest[1])
		p := parsed{kind: rest[0], handle: le.Uint16(rest[2:]), data: rest[:size]}
		end := bytes.Index(rest[size:], []byte{0, 0})
		if end < 0 {
			t.Fatalf("type %d has no end", p.kind)
		}
		if end > 0 {
			p.strings = strings.Split(string(rest[size:size+end]), "\x00")
		}
		list = append(list, p)
		rest = rest[size+end+2:]
	}
	return list
}

func build(t *testing.T, i Info) []parsed {
	t.Helper()
	const base = 0xf0000
	b, err := Build(base, i)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, b, base)
}

// one returns the n-th structure of a type.
func one(t *testing.T, list []parsed, kind byte, n int) parsed {
	t.Helper()
	for _, p := range list {
		if p.kind == kind {
			if n == 0 {
				return p
			}
			n--
		}
	}
	t.Fatalf("type %d is missing", kind)
	return parsed{}
}

func TestStructures(t *testing.T) {
	list := build(t, info())
	kinds, handles := "", map[uint16]bool{}
	for _, p := range list {
		kinds += fmt.Sprint(p.kind, " ")
		if handles[p.handle] {
			t.Errorf("handle %#x twice", p.handle)
		}
		handles[p.handle] = true
	}
	if want := "0 1 3 4 4 16 17 19 19 32 127 "; kinds != want {
		t.Errorf("types %s, want %s", kinds, want)
	}
}

// Lengths are those that DSP0134 gives for version 3.0.
func TestLengths(t *testing.T) {
	list := build(t, info())
	for kind, want := range map[byte]int{0: 0x18, 1: 0x1b, 3: 0x16, 4: 0x30, 16: 0x17, 17: 0x28, 19: 0x1f, 32: 0x0b, 127: 4} {
		if got := len(one(t, list, kind, 0).data); got != want {
			t.Errorf("type %d has %#x bytes, want %#x", kind, got, want)
		}
	}
}

func TestStrings(t *testing.T) {
	list := build(t, info())
	for _, c := range []struct {
		kind byte
		n    int
		at   int
		want string
	}{
		{0, 0, 0x04, "Keel"},
		{0, 0, 0x05, "0.1"},
		{0, 0, 0x08, "01/02/2026"},
		{1, 0, 0x04, "Keel"},
		{1, 0, 0x05, "Keel VTL0"},
		{1, 0, 0x07, "web"},
		{3, 0, 0x04, "Keel"},
		{4, 1, 0x04, "CPU 1"},
		{4, 0, 0x10, "AMD EPYC-Rome Processor"},
		{17, 0, 0x10, "DIMM 0"},
	} {
		if got := one(t, list, c.kind, c.n).str(c.at); got != c.want {
			t.Errorf("type %d, string at %#x: %q, want %q", c.kind, c.at, got, c.want)
		}
	}
	i := info()
	i.Serial = ""
	if got := one(t, build(t, i), 1, 0); got.data[7] != 0 {
		t.Errorf("no serial is string %d", got.data[7])
	}
}

func TestNumbers(t *testing.T) {
	list := build(t, info())
	uuid := []byte{0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	if got := one(t, list, 1, 0).data[8:24]; !bytes.Equal(got, uuid) {
		t.Errorf("UUID %x, want %x", got, uuid)
	}
	cpu := one(t, list, 4, 0).data
	if cpu[0x23] != 4 || cpu[0x25] != 8 || le.Uint16(cpu[0x2a:]) != 4 || le.Uint16(cpu[0x2e:]) != 8 || le.Uint16(cpu[0x26:]) != 0x1c {
		t.Errorf("processor %x", cpu)
	}
	if le.Uint64(cpu[8:]) != 0x0789_abcd_0083_0f10 || cpu[0x18] != 0x41 {
		t.Errorf("processor %x", cpu)
	}
	i := info()
	i.Sockets, i.Cores, i.Threads = 1, 1, 1
	if cpu := one(t, build(t, i), 4, 0).data; le.Uint16(cpu[0x26:]) != 4 {
		t.Errorf("characteristics %#x of a single core", le.Uint16(cpu[0x26:]))
	}
	high := one(t, list, 19, 1).data
	if le.Uint32(high[4:]) != 4<<20 || le.Uint32(high[8:]) != 5<<20-1 || le.Uint16(high[12:]) != one(t, list, 16, 0).handle {
		t.Errorf("mapped RAM %x", high)
	}
}

// Large sizes move to wider fields.
func TestMemorySizes(t *testing.T) {
	for _, c := range []struct {
		size              uint64
		array             uint32 // KiB
		arrayExt          uint64 // bytes
		device, deviceExt uint32 // MiB
	}{
		{64 << 20, 64 << 10, 0, 64, 0},
		{0x7ffe << 20, 0x7ffe << 10, 0, 0x7ffe, 0},
		{32 << 30, 32 << 20, 0, 0x7fff, 32 << 10},
		{2 << 40, 0x8000_0000, 2 << 40, 0x7fff, 2 << 20},
	} {
		i := info()
		i.RAM = []Range{{0, c.size}}
		list := build(t, i)
		a, d := one(t, list, 16, 0).data, one(t, list, 17, 0).data
		if le.Uint32(a[7:]) != c.array || le.Uint64(a[15:]) != c.arrayExt {
			t.Errorf("%#x: array %x", c.size, a)
		}
		if uint32(le.Uint16(d[12:])) != c.device || le.Uint32(d[0x1c:]) != c.deviceExt {
			t.Errorf("%#x: device %x", c.size, d)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Info){
		"NUL in a string": func(i *Info) { i.Serial = "a\x00b" },
		"long string":     func(i *Info) { i.Version = strings.Repeat("a", 65) },
		"no socket":       func(i *Info) { i.Sockets = 0 },
		"many sockets":    func(i *Info) { i.Sockets = 257 },
		"many threads":    func(i *Info) { i.Cores, i.Threads = 16, 17 },
		"no core":         func(i *Info) { i.Cores = 0 },
		"no thread":       func(i *Info) { i.Threads = 0 },
		"no RAM":          func(i *Info) { i.RAM = nil },
		"empty RAM":       func(i *Info) { i.RAM[0].Size = 0 },
		"odd RAM":         func(i *Info) { i.RAM[0].Size++ },
		"far RAM":         func(i *Info) { i.RAM[1].Start = 1 << 42 },
	} {
		i := info()
		spoil(&i)
		if _, err := Build(0xf0000, i); !errors.Is(err, ErrBuild) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
