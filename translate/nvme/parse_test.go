package nvme

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"keel/hcl/pci"
	"keel/translate/blk"
)

func TestParseDescriptors(t *testing.T) {
	eui, nguid, uuid := bytes.Repeat([]byte{1}, 8), bytes.Repeat([]byte{2}, 16), bytes.Repeat([]byte{3}, 16)
	entry := func(kind byte, value []byte) []byte { return append([]byte{kind, byte(len(value)), 0, 0}, value...) }
	full := identity{[16]byte(nguid), [16]byte(uuid), [8]byte(eui)}
	for _, x := range []struct {
		name string
		data []byte
		want identity
	}{
		{"empty", nil, identity{}},
		{"zeroes", make([]byte, 64), identity{}},
		{"all", bytes.Join([][]byte{entry(1, eui), entry(2, nguid), entry(3, uuid), make([]byte, 8)}, nil), full},
		{"unknown between", bytes.Join([][]byte{entry(1, eui), entry(77, make([]byte, 33)), entry(2, nguid), entry(3, uuid)}, nil), full},
		{"wrong lengths", bytes.Join([][]byte{entry(1, nguid), entry(2, eui), entry(3, nil)}, nil), identity{}},
		{"cut off", entry(3, uuid)[:19], identity{}},
		{"head cut off", []byte{3, 16, 0}, identity{}},
	} {
		var got identity
		if parseDescriptors(x.data, &got); got != x.want {
			t.Errorf("%s: %+v, want %+v", x.name, got, x.want)
		}
	}
}

func TestParseList(t *testing.T) {
	for _, x := range []struct {
		after uint32
		in    []uint32
		want  int
		full  bool
	}{
		{0, []uint32{1, 2, 5, 0}, 3, false},
		{0, []uint32{1, 2, 5, 6}, 4, true},
		{5, []uint32{5, 6}, 0, false},
		{0, []uint32{3, 2}, 1, false},
		{0, []uint32{1, 0xffffffff}, 1, false},
		{0, []uint32{1, 0xfffffffe}, 1, false},
	} {
		var b []byte
		for _, v := range x.in {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		if got, full := parseList(b, x.after); len(got) != x.want || full != x.full {
			t.Errorf("%v after %d: %v, %v", x.in, x.after, got, full)
		}
	}
}

// FuzzIdentify checks that what is read of Identify data is within bounds.
func FuzzIdentify(f *testing.F) {
	f.Add([]byte{}, uint64(1))
	f.Add([]byte{0, 0, 1, 0, 25, 3, 26, 2}, uint64(7))
	f.Fuzz(func(t *testing.T, patches []byte, seed uint64) {
		b := make([]byte, identifySize)
		if seed%3 == 0 {
			r := rand.New(rand.NewPCG(seed, 1))
			for i := range b {
				b[i] = byte(r.Uint32())
			}
		}
		// The formats that are most often usable.
		b[512], b[513] = 0x66, 0x44
		for i := 0; i+3 <= len(patches); i += 3 {
			b[int(binary.LittleEndian.Uint16(patches[i:]))%len(b)] = patches[i+2]
		}
		c, err := parseController(b)
		if err == nil && (c.maxTransfer < 0 || c.aborts < 1 || c.events < 1) {
			t.Errorf("%+v", c)
		}
		for _, text := range []string{c.serial, c.model} {
			for _, r := range text {
				if r < 0x20 || r > 0x7e {
					t.Errorf("text %q", text)
				}
			}
		}
		n, err := parseNamespace(b, &c)
		if i := n.info; err == nil && (i.BlockSize != 512 && i.BlockSize != 4096 || i.PhysicalSize < i.BlockSize ||
			i.PhysicalSize > maxPhysical || i.PhysicalSize&(i.PhysicalSize-1) != 0 || i.Blocks == 0 ||
			i.Blocks*uint64(i.BlockSize)/uint64(i.BlockSize) != i.Blocks || i.DiscardUnit == 0 || i.Optimal > i.MaxBlocks) {
			t.Errorf("%+v", i)
		}
		list, _ := parseList(b, uint32(seed))
		for i, id := range list {
			if id <= uint32(seed) || i > 0 && id <= list[i-1] {
				t.Errorf("list %v", list)
			}
		}
		parseDescriptors(b, &n.identity)
	})
}

// FuzzPlan cuts random layouts of memory into commands, and checks that every byte
// is moved once, to where it belongs.
func FuzzPlan(f *testing.F) {
	for i := range 20 {
		f.Add(uint64(i), byte(i), uint16(8<<i%5), i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, seed uint64, sgl byte, blocks uint16, aligned bool) {
		r := rand.New(rand.NewPCG(seed, 2))
		size := 512
		l := limits{transfer: 4096 << r.IntN(6), sgl: sglSupport(sgl % 3)}
		l.list, l.bounce = listSize(l.transfer), min(l.transfer, 4096<<r.IntN(4))
		total := int(blocks%512+1) * size
		memory := make([]byte, total)
		var segments []blk.Segment
		var addresses []uint64
		for at := 0; at < total; {
			n := min(1+r.IntN(3*pageSize), total-at)
			address := r.Uint64() >> 20
			if aligned {
				n = min(pageSize, total-at)
				address &^= pageSize - 1
				if at == 0 {
					n = min(512*(1+r.IntN(8)), total)
					address += pageSize - uint64(n)
				}
			}
			if r.IntN(10) == 0 {
				address = blk.NoDMA
			}
			segments = append(segments, blk.Segment{Data: memory[at : at+n], DMA: address})
			for i := range n {
				if address == blk.NoDMA {
					addresses = append(addresses, address)
				} else {
					addresses = append(addresses, address+uint64(i))
				}
			}
			at += n
		}
		var at place
		left, done := uint32(total/size), 0
		for left > 0 {
			p := l.plan(segments, at, left, uint32(size))
			bytes := int(p.blocks) * size
			if p.blocks == 0 || p.blocks > left || bytes > l.transfer || p.mode == modeBounce && bytes > l.bounce {
				t.Fatalf("%+v of %d blocks", p, left)
			}
			var e entry
			list := pci.Buffer{Bytes: make([]byte, l.list), DMA: 0xabc000}
			want := addresses[done : done+bytes]
			switch p.mode {
			case modePRP:
				if !direct(&e, list, segments, &at, bytes) {
					t.Fatal("PRP entries do not fit")
				}
				same(t, walkPRP(t, &e, list, bytes), want)
			case modeSGL:
				if l.sgl == sglNone || !scattered(&e, list, segments, &at, bytes) {
					t.Fatal("scatter gather list does not fit")
				}
				same(t, walkSGL(t, &e, list, l.sgl), want)
			case modeBounce:
				at.skip(segments, bytes)
			case modeNone:
				t.Fatal("no mode")
			}
			left -= p.blocks
			done += bytes
		}
		if aligned && sgl%3 != 0 && done != total {
			t.Fatalf("%d of %d bytes", done, total)
		}
	})
}

func same(t *testing.T, got, want []uint64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("byte %d is at %#x, want %#x", i, got[i], want[i])
		}
	}
}

// walkPRP returns the address of every byte that a command's PRP entries name.
func walkPRP(t *testing.T, e *entry, list pci.Buffer, length int) (all []uint64) {
	t.Helper()
	first, second := binary.LittleEndian.Uint64(e[24:]), binary.LittleEndian.Uint64(e[32:])
	add := func(address uint64) {
		for i := address; len(all) < length && (i == address || i%pageSize != 0); i++ {
			all = append(all, i)
		}
	}
	if first%4 != 0 {
		t.Fatalf("PRP1 %#x", first)
	}
	add(first)
	if rest := length - len(all); rest > pageSize {
		if second != list.DMA {
			t.Fatalf("list at %#x", second)
		}
		for i := 0; len(all) < length; i += 8 {
			entry := binary.LittleEndian.Uint64(list.Bytes[i:])
			if entry%pageSize != 0 {
				t.Fatalf("entry %#x", entry)
			}
			add(entry)
		}
	} else if rest > 0 {
		if second%pageSize != 0 {
			t.Fatalf("PRP2 %#x", second)
		}
		add(second)
	}
	return all
}

// walkSGL returns the address of every byte that a scatter gather list names.
func walkSGL(t *testing.T, e *entry, list pci.Buffer, support sglSupport) (all []uint64) {
	t.Helper()
	if e[1] != flagSGL {
		t.Fatalf("flags %#x", e[1])
	}
	d := e[24:40]
	if d[15] == sglLastSegment {
		if binary.LittleEndian.Uint64(d) != list.DMA {
			t.Fatal("list is elsewhere")
		}
		d = list.Bytes[:binary.LittleEndian.Uint32(d[8:])]
	}
	for ; len(d) > 0; d = d[16:] {
		address, n := binary.LittleEndian.Uint64(d), binary.LittleEndian.Uint32(d[8:])
		if d[15] != sglData || n == 0 || support == sglDwords && (address%4 != 0 || n%4 != 0) {
			t.Fatalf("descriptor %x", d[:16])
		}
		for i := range uint64(n) {
			all = append(all, address+i)
		}
	}
	return all
}

func TestCapabilities(t *testing.T) {
	c := capabilities(0x1ff | 20<<24 | 2<<32)
	if c.entries() != 512 || c.stride() != 16 || c.timeout().Seconds() != 10 || c.doorbells(1) != 0x1000+64 {
		t.Errorf("%d entries, stride %d, %v, doorbells to %#x", c.entries(), c.stride(), c.timeout(), c.doorbells(1))
	}
	if d := capabilities(0).timeout(); d <= 0 {
		t.Errorf("time-out %v", d)
	}
}

func TestIdentifiers(t *testing.T) {
	for _, n := range []int{2, 3, 8, 128, 1024} {
		ids, s := identifiersOf(n), slot{}
		seen := make(map[uint16]bool)
		for range 1 << (16 - ids - 1) {
			ids.renew(&s, n-2)
			id := s.command.id()
			if ids.number(id) != n-2 || id == 0xffff || seen[id] {
				t.Fatalf("identifier %#x of slot %d of %d", id, n-2, n)
			}
			seen[id] = true
		}
	}
}
