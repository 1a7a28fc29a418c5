package virtio

import (
	"errors"
	"slices"
	"testing"

	"keel/hcl/abi/x86"
	"keel/translate/blk"
	"keel/translate/virtio/virtiotest"
)

// desc is a descriptor of a table test.
type desc struct {
	at     x86.GPA
	length uint32
	flags  uint16
	next   uint16
}

const (
	next     = flagNext
	write    = flagWrite
	indirect = flagIndirect
	table    = x86.GPA(0x100000) // of indirect descriptors
	data     = x86.GPA(0x110000)
)

func TestChains(t *testing.T) {
	for _, c := range []struct {
		name       string
		features   uint64
		ring       []desc
		indirect   []desc
		head       uint16
		cause      error // nil: the chain is good
		readable   []int
		writable   []int
		outOfOrder bool
	}{
		{name: "one readable", ring: []desc{{data, 10, 0, 9}}, readable: []int{10}},
		{name: "one writable", ring: []desc{{data, 10, write, 0}}, writable: []int{10}},
		{
			name: "both", ring: []desc{{data, 1, next, 2}, {data, 3, write, 0}, {data, 2, next | write, 1}},
			readable: []int{1}, writable: []int{2, 3},
		},
		{name: "last descriptor", head: 7, ring: []desc{7: {data, 5, 0, 0}}, readable: []int{5}},
		{name: "overlapping", ring: []desc{{data, 16, next, 1}, {data + 8, 16, write, 0}}, readable: []int{16}, writable: []int{16}},
		{name: "no bytes", ring: []desc{{data, 0, next, 1}, {data, 0, write, 0}}},
		{name: "no bytes, anywhere", ring: []desc{{^x86.GPA(0), 0, 0, 0}}},
		{name: "high memory", ring: []desc{{1<<32 + 2*mib - 4, 4, 0, 0}}, readable: []int{4}},
		{
			name: "as long as the queue",
			ring: []desc{{data, 1, next, 1}, {data, 1, next, 2}, {data, 1, next, 3}, {data, 1, next, 4}, {data, 1, next, 5}, {data, 1, next, 6}, {data, 1, next, 7}, {data, 1, 0, 0}},
			readable: []int{
				1, 1, 1, 1, 1, 1, 1, 1,
			},
		},
		{
			name: "indirect", features: allFlags, ring: []desc{{table, 48, indirect, 77}},
			indirect: []desc{{data, 1, next, 2}, {data, 3, write, 0}, {data, 2, next | write, 1}},
			readable: []int{1}, writable: []int{2, 3},
		},
		{
			name: "indirect, with the flag to ignore", features: allFlags, ring: []desc{{table, 16, indirect | write, 0}},
			indirect: []desc{{data, 4, 0, 0}}, readable: []int{4},
		},
		{
			name: "indirect at the end", features: allFlags, ring: []desc{{data, 9, next, 1}, {table, 32, indirect, 0}},
			indirect: []desc{{data, 4, next, 1}, {data, 5, write, 0}}, readable: []int{9, 4}, writable: []int{5},
		},
		{name: "no such head", head: 8, cause: errDescriptor},
		{name: "head far off", head: 0xffff, cause: errDescriptor},
		{name: "no such next", ring: []desc{{data, 1, next, 8}}, cause: errDescriptor},
		{name: "loop of one", ring: []desc{{data, 1, next, 0}}, cause: errLoop},
		{name: "loop of two", ring: []desc{{data, 1, next, 1}, {data, 1, next, 0}}, cause: errLoop},
		{name: "loop of nothing", ring: []desc{{data, 0, next, 0}}, cause: errLoop},
		{name: "out of memory", ring: []desc{{2*mib - 4, 5, 0, 0}}, cause: errAny},
		{name: "in the hole", ring: []desc{{1 << 31, 5, write, 0}}, cause: errAny},
		{name: "address wraps", ring: []desc{{^x86.GPA(0) - 3, 8, 0, 0}}, cause: errAny},
		{name: "length of 4 GiB", ring: []desc{{data, 0xffffffff, 0, 0}}, cause: errAny},
		{name: "readable last", ring: []desc{{data, 1, next | write, 1}, {data, 1, 0, 0}}, cause: errOrder},
		{name: "indirect, not negotiated", ring: []desc{{table, 16, indirect, 0}}, indirect: []desc{{data, 1, 0, 0}}, cause: errIndirect},
		{name: "indirect and next", features: allFlags, ring: []desc{{table, 16, indirect | next, 1}}, indirect: []desc{{data, 1, 0, 0}}, cause: errNested},
		{name: "nested", features: allFlags, ring: []desc{{table, 16, indirect, 0}}, indirect: []desc{{table, 16, indirect, 0}}, cause: errNested},
		{name: "empty table", features: allFlags, ring: []desc{{table, 0, indirect, 0}}, cause: errTable},
		{name: "broken table", features: allFlags, ring: []desc{{table, 24, indirect, 0}}, cause: errTable},
		{name: "large table", features: allFlags, ring: []desc{{table, 16 * 1025, indirect, 0}}, cause: errTable},
		{name: "table elsewhere", features: allFlags, ring: []desc{{1 << 31, 16, indirect, 0}}, cause: errAny},
		{name: "loop in the table", features: allFlags, ring: []desc{{table, 32, indirect, 0}}, indirect: []desc{{data, 1, next, 1}, {data, 1, next, 0}}, cause: errLoop},
		{name: "out of the table", features: allFlags, ring: []desc{{table, 32, indirect, 0}}, indirect: []desc{{data, 1, next, 2}, {}, {data, 1, 0, 0}}, cause: errDescriptor},
		{name: "readable last, in the table", features: allFlags, ring: []desc{{data, 1, write | next, 1}, {table, 16, indirect, 0}}, indirect: []desc{{data, 1, 0, 0}}, cause: errOrder},
	} {
		b := newBench(t)
		b.handler.keep.Store(true)
		if c.features == 0 {
			c.features = plain
		}
		b.Negotiate(c.features)
		b.SetCommon(0x10, 2, 0)
		r := b.AddRing(0, 8, c.features)
		b.Run()
		for i, d := range c.ring {
			virtiotest.SetDescriptor(r.Desc, i, d.at, d.length, d.flags, d.next)
		}
		for i, d := range c.indirect {
			virtiotest.SetDescriptor(b.View(table, 16*(i+1)), i, d.at, d.length, d.flags, d.next)
		}
		r.Offer(c.head)
		r.Kick()
		kept := b.handler.kept
		stats := b.device.Stats()
		if c.cause != nil {
			broken := stats.Broken == 1 && errors.Is(stats.Cause, ErrChain) && (errors.Is(errAny, c.cause) || errors.Is(stats.Cause, c.cause))
			if len(kept) != 0 || !broken || b.Status() != 0x4f || b.vectors.Count(0) != 1 {
				t.Errorf("%s: %d chains, %v, status %#x, %d interrupts", c.name, len(kept), stats.Cause, b.Status(), b.vectors.Count(0))
			}
			continue
		}
		if len(kept) != 1 {
			t.Errorf("%s: no chain: %v", c.name, stats.Cause)
			continue
		}
		k := kept[0]
		if !slices.Equal(lengths(k.Readable), c.readable) || !slices.Equal(lengths(k.Writable), c.writable) {
			t.Errorf("%s: readable %v, writable %v", c.name, lengths(k.Readable), lengths(k.Writable))
		}
		if k.ReadableBytes != sum(c.readable) || k.WritableBytes != sum(c.writable) {
			t.Errorf("%s: %d and %d bytes", c.name, k.ReadableBytes, k.WritableBytes)
		}
	}
}

// errAny is a cause of which the test does not say more.
var errAny = errors.New("any")

func sum(list []int) (n uint64) {
	for _, v := range list {
		n += uint64(v)
	}
	return n
}

func TestMoreThanFourGiB(t *testing.T) {
	b := newBench(t)
	r := b.start(t, 64, plain|uint64(FeatureIndirect))
	tab := b.View(table, 16*1024)
	for i := range 1024 {
		flags := uint16(flagNext)
		virtiotest.SetDescriptor(tab, i, 1<<32, 2*mib, flags, uint16(i+1))
	}
	virtiotest.SetDescriptor(r.Desc, 0, table, 16*1024, flagIndirect, 0)
	r.Offer(0)
	r.Kick()
	if cause := b.device.Stats().Cause; !errors.Is(cause, errDescriptor) {
		t.Errorf("2 GiB that go on and on: %v", cause)
	}
}

func TestSegmentsAndDMA(t *testing.T) {
	for _, direct := range []bool{false, true} {
		b := newBench(t, func(c *Config) { c.DirectDMA = direct })
		b.handler.keep.Store(true)
		r := b.start(t, 8, plain)
		r.Add([]virtiotest.Buffer{{GPA: data, Size: 16}}, []virtiotest.Buffer{{GPA: 1 << 32, Size: 16}})
		r.Kick()
		k := b.handler.kept[0]
		want := [2]uint64{blk.NoDMA, blk.NoDMA}
		if direct {
			want = [2]uint64{uint64(data), 1 << 32}
		}
		if k.Readable[0].DMA != want[0] || k.Writable[0].DMA != want[1] {
			t.Errorf("direct %v: %#x and %#x", direct, k.Readable[0].DMA, k.Writable[0].DMA)
		}
	}
}

func TestTakeAndRead(t *testing.T) {
	memory := []byte("0123456789")
	list := func() []blk.Segment {
		return []blk.Segment{{Data: memory[:4], DMA: 100}, {Data: memory[4:5], DMA: blk.NoDMA}, {Data: memory[5:], DMA: 200}}
	}
	for _, c := range []struct {
		n           int
		front, rest []int
		dma         uint64 // of what is left
	}{
		{0, nil, []int{4, 1, 5}, 100},
		{3, []int{3}, []int{1, 1, 5}, 103},
		{4, []int{4}, []int{1, 5}, blk.NoDMA},
		{7, []int{4, 1, 2}, []int{3}, 202},
		{10, []int{4, 1, 5}, nil, 0},
		{11, []int{4, 1, 5}, nil, 0},
	} {
		rest := list()
		front := Take(nil, &rest, c.n)
		if !slices.Equal(lengths(front), c.front) || !slices.Equal(lengths(rest), c.rest) {
			t.Errorf("Take(%d): %v and %v", c.n, lengths(front), lengths(rest))
		}
		if len(rest) > 0 && rest[0].DMA != c.dma {
			t.Errorf("Take(%d) leaves DMA %d, want %d", c.n, rest[0].DMA, c.dma)
		}
		p, from := make([]byte, c.n), list()
		got := Read(p, &from)
		if got != min(c.n, 10) || string(p[:got]) != string(memory[:got]) || !slices.Equal(lengths(from), c.rest) {
			t.Errorf("Read(%d) = %d, %q, rest %v", c.n, got, p, lengths(from))
		}
	}
	if n := Write(list(), []byte("abcdef")); n != 6 || string(memory) != "abcdef6789" {
		t.Errorf("wrote %d: %q", n, memory)
	}
	if n := Write(list()[:2], []byte("abcdefgh")); n != 5 {
		t.Errorf("wrote %d", n)
	}
}
