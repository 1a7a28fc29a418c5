package blk_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"keel/translate/blk"
	"keel/translate/blk/blktest"
)

// members makes n disks with distinct identifiers.
func members(n int, info blk.Info) ([]*blktest.Disk, []blk.Disk) {
	var disks []*blktest.Disk
	var all []blk.Disk
	for i := range n {
		info.ID[0] = byte(i + 1)
		d := blktest.New(info)
		disks, all = append(disks, d), append(all, d)
	}
	return disks, all
}

func do(d blk.Disk, r *blk.Request) error {
	done := make(chan struct{})
	r.Done = func(*blk.Request) { close(done) }
	d.Submit(1, r)
	<-done
	return r.Err
}

func TestStripeRefuses(t *testing.T) {
	small := blk.Info{Blocks: 64, BlockSize: 512}
	big := blk.Info{Blocks: 128, BlockSize: 512}
	wide := blk.Info{Blocks: 64, BlockSize: 4096}
	tests := []struct {
		name  string
		chunk uint32
		infos []blk.Info
		want  string
	}{
		{"one disk", 8, []blk.Info{small}, "1 disks"},
		{"no chunk", 0, []blk.Info{small, small}, "chunks of 0"},
		{"unequal sizes", 8, []blk.Info{small, big}, "disk 1 has 128 blocks, disk 0 has 64"},
		{"unequal block sizes", 8, []blk.Info{small, wide}, "blocks of 4096 bytes"},
		{"chunk too long", 65, []blk.Info{small, small}, "hold no chunk"},
	}
	for _, tt := range tests {
		var disks []blk.Disk
		for _, i := range tt.infos {
			disks = append(disks, blktest.New(i))
		}
		_, err := blk.NewStripe(tt.chunk, disks...)
		if !errors.Is(err, blk.ErrStripe) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want it to say %q", tt.name, err, tt.want)
		}
	}
}

func TestStripeInfo(t *testing.T) {
	a := blk.Info{Blocks: 70, BlockSize: 512, PhysicalSize: 512, MaxBlocks: 16, MaxZeroes: 0, Discard: true, DiscardUnit: 1, MaxRanges: 8, MaxDiscard: 32, WriteZeroes: true, DiscardZeroes: true, Compare: true}
	b := a
	b.PhysicalSize, b.MaxBlocks, b.MaxZeroes, b.Volatile, b.MaxRanges, b.MaxDiscard, b.DiscardZeroes = 4096, 0, 20, true, 4, 0, false
	s, err := blk.NewStripe(16, blktest.New(a), blktest.New(b))
	if err != nil {
		t.Fatal(err)
	}
	got := s.Info()
	id := got.ID
	got.ID = [16]byte{}
	want := blk.Info{Blocks: 128, BlockSize: 512, PhysicalSize: 4096, Optimal: 32, MaxBlocks: 32, MaxZeroes: 40, Volatile: true, Discard: true, DiscardUnit: 1, MaxDiscard: 64, MaxRanges: 4, WriteZeroes: true, Compare: true}
	if got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if again, _ := blk.NewStripe(16, blktest.New(a), blktest.New(b)); again.Info().ID != id {
		t.Error("identifier is not stable")
	}
	if other, _ := blk.NewStripe(8, blktest.New(a), blktest.New(b)); other.Info().ID == id {
		t.Error("identifier does not depend on the chunk")
	}
}

// TestStripeModel compares a stripe with a plain array, request by request.
func TestStripeModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 40 {
		n, chunk := 2+rnd.IntN(3), uint32(1+rnd.IntN(9))
		info := blk.Info{
			Blocks: 90, BlockSize: 512, MaxBlocks: uint32(rnd.IntN(8)), MaxZeroes: uint32(rnd.IntN(8)), Discard: true,
			MaxRanges: uint32(rnd.IntN(3)), MaxDiscard: uint64(rnd.IntN(20)), WriteZeroes: true, Compare: true,
		}
		disks, all := members(n, info)
		s, err := blk.NewStripe(chunk, all...)
		if err != nil {
			t.Fatal(err)
		}
		i := s.Info()
		model := make([]byte, i.Blocks*512)
		for step := range 60 {
			limit := i.Blocks
			if i.MaxBlocks != 0 {
				limit = min(limit, uint64(i.MaxBlocks))
			}
			if i.MaxZeroes != 0 {
				limit = min(limit, uint64(i.MaxZeroes))
			}
			blocks := rnd.Uint64N(limit + 1)
			lba := rnd.Uint64N(i.Blocks - blocks + 1)
			r := &blk.Request{Op: blk.Op(rnd.IntN(6)), LBA: lba, Blocks: uint32(blocks)}
			buf := make([]byte, blocks*512)
			part := model[lba*512 : (lba+blocks)*512]
			switch r.Op {
			case blk.OpWrite:
				for j := range buf {
					buf[j] = byte(rnd.Uint32())
				}
				copy(part, buf)
			case blk.OpCompare:
				copy(buf, part)
			case blk.OpWriteZeroes:
				clear(part)
			case blk.OpDiscard:
				for range rnd.IntN(int(max(i.MaxRanges, 1)) + 1) {
					size := rnd.Uint64N(i.Blocks/2 + 1)
					if i.MaxDiscard != 0 {
						size = min(size, i.MaxDiscard)
					}
					x := blk.Range{LBA: rnd.Uint64N(i.Blocks - size + 1), Blocks: size}
					r.Ranges = append(r.Ranges, x)
					clear(model[x.LBA*512 : (x.LBA+x.Blocks)*512])
				}
			default:
			}
			// Odd segments, so that chunks and segments do not coincide.
			for rest := buf; len(rest) > 0; {
				k := 1 + rnd.IntN(len(rest))
				r.Segments = append(r.Segments, blk.Segment{Data: rest[:k], DMA: blk.NoDMA})
				rest = rest[k:]
			}
			if err := do(s, r); err != nil {
				t.Fatalf("round %d, step %d: %v of %d blocks at %d: %v", round, step, r.Op, blocks, lba, err)
			}
			if r.Op == blk.OpRead && !bytes.Equal(buf, part) {
				t.Fatalf("round %d, step %d: read %d blocks at %d: wrong data", round, step, blocks, lba)
			}
		}
		// The layout itself: chunk after chunk, disk after disk.
		for b := range i.Blocks {
			c := b / uint64(chunk)
			at := (c/uint64(n)*uint64(chunk) + b%uint64(chunk)) * 512
			if !bytes.Equal(disks[c%uint64(n)].Bytes()[at:at+512], model[b*512:(b+1)*512]) {
				t.Fatalf("round %d: block %d is not where it should be", round, b)
			}
		}
	}
}

func TestStripeDMA(t *testing.T) {
	r := &capture{info: blk.Info{Blocks: 64, BlockSize: 512}}
	s, err := blk.NewStripe(4, r, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := do(s, &blk.Request{Op: blk.OpRead, LBA: 2, Blocks: 8, Segments: []blk.Segment{{Data: make([]byte, 4096), DMA: 0x10000}}}); err != nil {
		t.Fatal(err)
	}
	want := map[uint64]int{0x10000: 1024, 0x10400: 2048, 0x10c00: 1024}
	for dma, n := range want {
		if r.seen[dma] != n {
			t.Errorf("at %#x: %d bytes, want %d; all: %x", dma, r.seen[dma], n, r.seen)
		}
	}
}

// capture notes the segments that it gets.
type capture struct {
	info blk.Info
	seen map[uint64]int
}

func (c *capture) Info() blk.Info { return c.info }

func (c *capture) Submit(_ int, r *blk.Request) {
	if c.seen == nil {
		c.seen = map[uint64]int{}
	}
	for _, s := range r.Segments {
		c.seen[s.DMA] += len(s.Data)
	}
	r.Complete(nil)
}
func (*capture) Cancel(*blk.Request)     {}
func (*capture) Watch(func(e blk.Event)) {}

func TestStripeErrors(t *testing.T) {
	disks, all := members(2, blk.Info{Blocks: 64, BlockSize: 512})
	s, _ := blk.NewStripe(4, all...)
	disks[1].Fault(1, blk.ErrMedium)
	read := func(lba uint64, n int) error {
		return do(s, &blk.Request{Op: blk.OpRead, LBA: lba, Blocks: uint32(n), Segments: []blk.Segment{{Data: make([]byte, n*512), DMA: blk.NoDMA}}})
	}
	if err := read(0, 4); err != nil {
		t.Errorf("blocks of the good disk: %v", err)
	}
	if err := read(0, 8); !errors.Is(err, blk.ErrMedium) {
		t.Errorf("with a bad block: %v", err)
	}
	if err := read(124, 8); !errors.Is(err, blk.ErrRange) {
		t.Errorf("beyond the end: %v", err)
	}
	var events []blk.Event
	s.Watch(func(e blk.Event) { events = append(events, e) })
	disks[0].Resize(128)
	disks[0].Remove()
	disks[1].Remove()
	if len(events) != 2 || events[0] != blk.EventResized || events[1] != blk.EventRemoved {
		t.Errorf("events %v", events)
	}
	if err := read(4, 1); !errors.Is(err, blk.ErrRemoved) {
		t.Errorf("after removal: %v", err)
	}
}

func TestStripeCancel(t *testing.T) {
	disks, all := members(2, blk.Info{Blocks: 64, BlockSize: 512})
	s, _ := blk.NewStripe(4, all...)
	disks[0].Hold()
	disks[1].Hold()
	done := make(chan error, 1)
	r := &blk.Request{Op: blk.OpFlush, Done: func(r *blk.Request) { done <- r.Err }}
	s.Submit(0, r)
	s.Cancel(&blk.Request{}) // another one
	if disks[0].Held() != 1 || disks[1].Held() != 1 {
		t.Fatal("not all members were asked to flush")
	}
	s.Cancel(r)
	if err := <-done; !errors.Is(err, blk.ErrAborted) {
		t.Errorf("got %v", err)
	}
}

func TestStripeAllocs(t *testing.T) {
	_, all := members(2, blk.Info{Blocks: 64, BlockSize: 512})
	s, _ := blk.NewStripe(4, all...)
	r := &blk.Request{Op: blk.OpWrite, Blocks: 24, Segments: []blk.Segment{{Data: make([]byte, 24*512), DMA: blk.NoDMA}}, Done: func(*blk.Request) {}}
	flush := &blk.Request{Op: blk.OpFlush, Done: func(*blk.Request) {}}
	if n := testing.AllocsPerRun(100, func() { s.Submit(3, r); s.Submit(3, flush) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
