package pcihost

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"keel/hcl/abi/x86"
	"keel/vtl/bus"
)

// card is a function with two memory BARs: BAR 0 of 32 bits, BARs 2 and 3 of 64
// bits. A size of 0 leaves the BAR out.
type card struct {
	narrow, wide uint64
	command      uint32
	bars         [2]uint64
	regs         registers
}

// registers remember the last access.
type registers struct {
	offset uint64
	size   int
	value  uint64
}

func (r *registers) ReadMMIO(offset uint64, size int) uint64 {
	r.offset, r.size = offset, size
	return r.value
}

func (r *registers) WriteMMIO(offset uint64, size int, value uint64) {
	r.offset, r.size, r.value = offset, size, value
}

func (c *card) ReadConfig(offset uint16, _ int) uint32 {
	switch {
	case offset == 0x04:
		return c.command
	case offset == 0x10 && c.narrow != 0:
		return uint32(c.bars[0])
	case offset == 0x18 && c.wide != 0:
		return uint32(c.bars[1]) | 4
	case offset == 0x1c && c.wide != 0:
		return uint32(c.bars[1] >> 32)
	case offset == 0x20:
		return 0xfffffff1 // ports
	}
	return 0
}

func (c *card) WriteConfig(offset uint16, _ int, value uint32) {
	switch offset {
	case 0x04:
		c.command = value & 7
	case 0x10:
		c.bars[0] = uint64(value) &^ (c.narrow - 1)
	case 0x18:
		c.bars[1] = (c.bars[1]&^0xffffffff | uint64(value)) &^ (c.wide - 1)
	case 0x1c:
		c.bars[1] = (c.bars[1]&0xffffffff | uint64(value)<<32) &^ (c.wide - 1)
	}
}

func (c *card) DecodeMMIO(gpa x86.GPA, size int) (bus.MMIODevice, uint64, bool) {
	for i, n := range []uint64{c.narrow, c.wide} {
		if at := uint64(gpa) - c.bars[i]; c.command&2 != 0 && at < n && n-at >= uint64(size) {
			return &c.regs, at, true
		}
	}
	return nil, 0, false
}

func (c *card) DecodePIO(uint16, int) (bus.PIODevice, uint16, bool) { return nil, 0, false }

var (
	testLow  = Range{0xc0000000, 512 << 20}
	testHigh = Range{512 << 30, 256 << 30}

	testPorts = Range{0xc000, 0x1000}
)

func newHost(t *testing.T, cards ...*card) *Host {
	t.Helper()
	h := New(testECAM, &port{})
	// The order in which functions are added is none of the outcome.
	for _, i := range rand.Perm(len(cards)) {
		if err := h.Add(MakeAddress(0, uint8(i+1), 0), cards[i]); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func TestAssign(t *testing.T) {
	for _, c := range []struct {
		name      string
		cards     []*card
		low, high Range
		want      [][2]uint64
		refused   []string
	}{
		{
			"the largest first",
			[]*card{{narrow: 4096}, {narrow: 64 << 10, wide: 16 << 10}},
			testLow, testHigh,
			[][2]uint64{{0xc0014000, 0}, {0xc0000000, 0xc0010000}},
			nil,
		},
		{
			"small BARs have pages of their own",
			[]*card{{narrow: 64}, {narrow: 64}},
			testLow, testHigh,
			[][2]uint64{{0xc0000000, 0}, {0xc0001000, 0}},
			nil,
		},
		{
			"wide ones go up",
			[]*card{{wide: 1 << 30}, {wide: 8 << 30, narrow: 4096}},
			testLow, testHigh,
			[][2]uint64{{0, 0x8200000000}, {0xc0000000, 0x8000000000}},
			nil,
		},
		{
			"no room",
			[]*card{{narrow: 1 << 30}, {wide: 1 << 40}, {narrow: 4096}},
			testLow, testHigh,
			[][2]uint64{{0, 0}, {0, 0}, {0xc0000000, 0}},
			[]string{"00:01.0", "00:02.0"},
		},
		{
			"narrow ones stay below 4 GiB",
			[]*card{{narrow: 4096}},
			Range{1 << 32, 1 << 30},
			testHigh,
			[][2]uint64{{0, 0}},
			[]string{"00:01.0"},
		},
		{
			"a misaligned window",
			[]*card{{narrow: 64 << 10}},
			Range{0xc0001000, 0x20000},
			testHigh,
			[][2]uint64{{0xc0010000, 0}},
			nil,
		},
	} {
		h := newHost(t, c.cards...)
		err := h.Assign(c.low, c.high, testPorts)
		if (err != nil) != (len(c.refused) != 0) || err != nil && !errors.Is(err, ErrAssign) {
			t.Errorf("%s: %v", c.name, err)
		}
		for i, card := range c.cards {
			at := MakeAddress(0, uint8(i+1), 0).String()
			short := slices.Contains(c.refused, at)
			if card.bars != c.want[i] || card.command&2 != 0 == short {
				t.Errorf("%s: %s has %#x, command %#x, want %#x", c.name, at, card.bars, card.command, c.want[i])
			}
			if short && !strings.Contains(err.Error(), at) {
				t.Errorf("%s: %v does not name %s", c.name, err, at)
			}
		}
	}
}

func TestAssignIsTheSameEachTime(t *testing.T) {
	cards := []*card{{narrow: 4096, wide: 16 << 10}, {narrow: 4096}, {wide: 16 << 10}, {narrow: 64 << 10}}
	h := newHost(t, cards...)
	if err := h.Assign(testLow, testHigh, testPorts); err != nil {
		t.Fatal(err)
	}
	var first [][2]uint64
	for _, c := range cards {
		first = append(first, c.bars)
	}
	cards[1].WriteConfig(0x10, 4, 0xdead0000) // a guest moved it
	if err := h.Assign(testLow, testHigh, testPorts); err != nil {
		t.Fatal(err)
	}
	for i, c := range cards {
		if c.bars != first[i] {
			t.Errorf("function %d has %#x, had %#x", i, c.bars, first[i])
		}
	}
}

func TestWindows(t *testing.T) {
	a, b := &card{narrow: 4096}, &card{narrow: 4096, wide: 1 << 30}
	h := newHost(t, a, b)
	if err := h.Assign(testLow, testHigh, testPorts); err != nil {
		t.Fatal(err)
	}
	low, high := h.Window(testLow.Base), h.Window(testHigh.Base)
	a.regs.value, b.regs.value = 0xa, 0xb
	for _, c := range []struct {
		name   string
		window *Window
		offset uint64
		size   int
		want   uint64
	}{
		{"first", low, 0x0ffc, 4, 0xa},
		{"over its end", low, 0x0ffd, 4, ^uint64(0)},
		{"second", low, 0x1000, 8, 0xb},
		{"nobody", low, 0x2000, 4, ^uint64(0)},
		{"high", high, 0x3ffffff8, 8, 0xb},
		{"past it", high, 0x40000000, 1, ^uint64(0)},
	} {
		if got := c.window.ReadMMIO(c.offset, c.size); got != c.want {
			t.Errorf("%s: read %#x, want %#x", c.name, got, c.want)
		}
	}
	if b.regs.offset != 0x3ffffff8 || b.regs.size != 8 {
		t.Errorf("device saw %+v", b.regs)
	}
	low.WriteMMIO(0x10, 2, 0x1234)
	low.WriteMMIO(0x5000, 2, 0x1234)
	if a.regs.value != 0x1234 || a.regs.offset != 0x10 || a.regs.size != 2 {
		t.Errorf("device saw %+v", a.regs)
	}
	if got := h.Unclaimed(); got != 4 {
		t.Errorf("%d unclaimed, want 4", got)
	}
	// Where they overlap the lowest function answers; one that does not decode is
	// not there.
	b.WriteConfig(0x10, 4, uint32(a.bars[0]))
	if got := low.ReadMMIO(0x10, 4); got != 0x1234 {
		t.Errorf("overlap reads %#x", got)
	}
	a.WriteConfig(0x04, 2, 0)
	if got := low.ReadMMIO(0x10, 4); got != 0xb {
		t.Errorf("behind a disabled function %#x", got)
	}
}

func TestRoutingDoesNotAllocate(t *testing.T) {
	h := newHost(t, &card{narrow: 4096}, &card{narrow: 4096, wide: 1 << 20})
	if err := h.Assign(testLow, testHigh, testPorts); err != nil {
		t.Fatal(err)
	}
	w := h.Window(testLow.Base)
	if n := testing.AllocsPerRun(100, func() {
		w.WriteMMIO(0x100010, 4, w.ReadMMIO(0x100000, 8))
		w.ReadMMIO(0x1000000, 4)
	}); n != 0 {
		t.Errorf("%v allocations per access", n)
	}
}
