package nvme_test

import (
	"fmt"
	"sync"
	"testing"

	"keel/translate/blk"
	"keel/translate/nvme"
	"keel/translate/nvme/nvmetest"
)

// shapes are layouts of a transfer's memory, for blocks of 512 bytes.
var shapes = []struct {
	name    string
	size    int
	layout  func(g guest) []blk.Segment
	copied  int // bytes, without scatter gather lists
	listed  int // bytes copied with them
	minimum int // commands at least
}{
	{"one page", 4096, func(g guest) []blk.Segment { return []blk.Segment{g.at(4096, 4096)} }, 0, 0, 1},
	{"one block in a page", 512, func(g guest) []blk.Segment { return []blk.Segment{g.at(4096+512, 512)} }, 0, 0, 1},
	{"two pages from an offset", 8192, func(g guest) []blk.Segment { return []blk.Segment{g.at(4, 8192)} }, 0, 0, 1},
	{"list of pages", 65536, func(g guest) []blk.Segment { return []blk.Segment{g.at(512, 65536)} }, 0, 0, 1},
	{"pages that lie apart", 3 * 4096, func(g guest) []blk.Segment {
		return []blk.Segment{g.at(9*4096, 4096), g.at(2*4096, 4096), g.at(4*4096, 4096)}
	}, 0, 0, 1},
	{"end and beginning", 4096, func(g guest) []blk.Segment {
		return []blk.Segment{g.at(4096-512, 512), g.at(8*4096, 3584)}
	}, 0, 0, 1},
	{"hole in a page", 4096, func(g guest) []blk.Segment {
		return []blk.Segment{g.at(0, 2048), g.at(8192, 2048)}
	}, 4096, 0, 1},
	{"odd address", 1024, func(g guest) []blk.Segment { return []blk.Segment{g.at(8193, 1024)} }, 1024, 0, 1},
	{"block in three pieces", 512, func(g guest) []blk.Segment {
		return []blk.Segment{g.at(0, 100), g.at(5000, 12), g.at(9000, 400)}
	}, 512, 0, 1},
	{"unreachable", 4096, func(g guest) []blk.Segment { return []blk.Segment{g.hidden(4096, 4096)} }, 4096, 4096, 1},
	{"half unreachable", 8192, func(g guest) []blk.Segment {
		return []blk.Segment{g.at(0, 4096), g.hidden(4096, 4096)}
	}, 8192, 8192, 1},
	{"long, then unreachable", 36864, func(g guest) []blk.Segment {
		return []blk.Segment{g.at(0, 32768), g.hidden(32768, 4096)}
	}, 4096, 4096, 2},
	{"longer than a command", 1 << 20, func(g guest) []blk.Segment { return []blk.Segment{g.at(0, 1<<20)} }, 0, 0, 2},
	{"longer than the pool", 1 << 20, func(g guest) []blk.Segment { return []blk.Segment{g.hidden(12, 1<<20)} }, 1 << 20, 1 << 20, 8},
	{"empty segments", 1024, func(g guest) []blk.Segment {
		return []blk.Segment{g.at(0, 0), g.at(512, 512), g.at(7, 0), g.at(1024, 512), g.at(3, 0)}
	}, 0, 0, 1},
}

func TestReadAndWrite(t *testing.T) {
	for _, sgl := range []uint32{0, 1, 2} {
		for _, shape := range shapes {
			t.Run(fmt.Sprintf("%s, SGLS %d", shape.name, sgl), func(t *testing.T) {
				fake := one()
				fake.SGL = sgl
				fake.Sync = true
				f, c := open(t, fake, nvme.Config{Bounce: 256 << 10, Poll: -1})
				d, g := first(t, c), newGuest(f, 2<<20)
				want := noise(8192*512, 1)
				f.Fill(1, want)
				r := rw(blk.OpRead, 17, 512, shape.layout(g)...)
				if err := do(t, d, r); err != nil {
					t.Fatal(err)
				}
				var got []byte
				for _, s := range r.Segments {
					got = append(got, s.Data...)
				}
				wantData(t, got, want[17*512:][:shape.size])
				copied := shape.copied
				if sgl != 0 {
					copied = shape.listed
				}
				if sgl == 2 && shape.name == "odd address" {
					copied = shape.copied
				}
				s := c.Stats()
				if s.Bounced != uint64(copied) || s.Reads < uint64(shape.minimum) {
					t.Errorf("%d bytes copied in %d commands, want %d in at least %d", s.Bounced, s.Reads, copied, shape.minimum)
				}
				copy(g.data, noise(2<<20, 2))
				got = got[:0]
				for _, s := range r.Segments {
					got = append(got, s.Data...)
				}
				r.Op = blk.OpWrite
				if err := do(t, d, r); err != nil {
					t.Fatal(err)
				}
				copy(want[17*512:], got)
				wantData(t, f.Data(1), want)
				r.Op = blk.OpCompare
				if err := do(t, d, r); err != nil {
					t.Error(err)
				}
				for i := range r.Segments {
					if data := r.Segments[i].Data; len(data) > 0 {
						data[len(data)-1] ^= 1
					}
				}
				wantErr(t, do(t, d, r), blk.ErrMiscompare)
			})
		}
	}
}

func TestLargestTransferOfTheController(t *testing.T) {
	fake := one()
	fake.MDTS = 1 // 8 KiB
	f, c := open(t, fake, nvme.Config{})
	g := newGuest(f, 1<<20)
	want := noise(8192*512, 3)
	f.Fill(1, want)
	if err := do(t, first(t, c), rw(blk.OpRead, 0, 512, g.at(512, 100*1024))); err != nil {
		t.Fatal(err)
	}
	wantData(t, g.data[512:][:100*1024], want[:100*1024])
	if n := c.Stats().Reads; n != 13 {
		t.Errorf("%d commands, want 13", n)
	}
	if n := f.Counts().Doorbells; n >= 13 {
		t.Errorf("%d doorbells for 13 commands of one request", n)
	}
}

func TestOtherCommands(t *testing.T) {
	f, c := open(t, one(), nvme.Config{})
	d := first(t, c)
	f.Fill(1, noise(8192*512, 4))
	want := f.Data(1)
	for _, r := range []*blk.Request{
		{Op: blk.OpFlush},
		{Op: blk.OpWriteZeroes, LBA: 10, Blocks: 5},
		{Op: blk.OpWriteZeroes, LBA: 20, Blocks: 5, Unmap: true, FUA: true},
		{Op: blk.OpDiscard, Ranges: []blk.Range{{LBA: 30, Blocks: 1}, {LBA: 99}, {LBA: 40, Blocks: 2}}},
		{Op: blk.OpDiscard, Ranges: []blk.Range{{LBA: 50}}},
		{Op: blk.OpDiscard},
		{Op: blk.OpRead, LBA: 8192},
		{Op: blk.OpWriteZeroes, LBA: 3},
	} {
		if err := do(t, d, r); err != nil {
			t.Errorf("%v: %v", r.Op, err)
		}
	}
	for _, run := range [][2]int{{10, 15}, {20, 25}, {30, 31}, {40, 42}} {
		clear(want[run[0]*512 : run[1]*512])
	}
	wantData(t, f.Data(1), want)
	n := f.Counts()
	for opcode, count := range map[byte]int{0: 1, 8: 2, 9: 1, 2: 0} {
		if n.Opcodes[opcode] != count {
			t.Errorf("%d commands %#x, want %d", n.Opcodes[opcode], opcode, count)
		}
	}
}

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		name   string
		r      *blk.Request
		dlfeat byte
		dw12   uint32
	}{
		{"write", &blk.Request{Op: blk.OpWrite}, 9, 0},
		{"write through", &blk.Request{Op: blk.OpWrite, FUA: true}, 9, 1 << 30},
		{"zeroes", &blk.Request{Op: blk.OpWriteZeroes}, 9, 0},
		{"zeroes that may unmap", &blk.Request{Op: blk.OpWriteZeroes, Unmap: true}, 9, 1 << 25},
		{"zeroes that may unmap, without DEAC", &blk.Request{Op: blk.OpWriteZeroes, Unmap: true}, 1, 0},
		{"zeroes through", &blk.Request{Op: blk.OpWriteZeroes, FUA: true}, 9, 1 << 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := one()
			fake.Namespaces[0].DLFEAT = c.dlfeat
			f, ctl := open(t, fake, nvme.Config{})
			var seen []uint32
			f.Set(func(to *nvmetest.Faults) {
				to.Hook = func(cmd nvmetest.Command) nvmetest.Action {
					if cmd.Queue != 0 {
						seen = append(seen, cmd.DW12)
					}
					return nvmetest.Action{}
				}
			})
			g := newGuest(f, 4096)
			c.r.Blocks, c.r.Segments = 8, []blk.Segment{g.at(0, 4096)}
			if err := do(t, first(t, ctl), c.r); err != nil {
				t.Fatal(err)
			}
			if len(seen) != 1 || seen[0] != c.dw12|7 {
				t.Errorf("CDW12 is %#x, want %#x", seen, c.dw12|7)
			}
		})
	}
}

func TestLargeZeroesAndDiscards(t *testing.T) {
	fake := nvmetest.Config{Namespaces: []nvmetest.Namespace{{ID: 1, Blocks: 140000}}}
	f, c := open(t, fake, nvme.Config{})
	d := first(t, c)
	f.Fill(1, noise(140000*512, 5))
	if err := do(t, d, &blk.Request{Op: blk.OpWriteZeroes, Blocks: 139999}); err != nil {
		t.Fatal(err)
	}
	data := f.Data(1)
	for i, b := range data[:139999*512] {
		if b != 0 {
			t.Fatalf("byte %d is %#x", i, b)
		}
	}
	var ranges []blk.Range
	for i := range 256 {
		ranges = append(ranges, blk.Range{LBA: uint64(i * 2), Blocks: 1})
	}
	f.Fill(1, noise(1024*512, 6))
	if err := do(t, d, &blk.Request{Op: blk.OpDiscard, Ranges: ranges}); err != nil {
		t.Fatal(err)
	}
	want := noise(1024*512, 6)
	for i := range 256 {
		clear(want[i*1024:][:512])
	}
	wantData(t, f.Data(1)[:1024*512], want)
	if n := c.Stats(); n.Zeroes != 3 || n.Discards != 4 {
		t.Errorf("%d commands of zeroes and %d of discards, want 3 and 4", n.Zeroes, n.Discards)
	}
}

func TestChecksRequests(t *testing.T) {
	fake := one()
	fake.Namespaces = append(fake.Namespaces, nvmetest.Namespace{ID: 2, Blocks: 64, ReadOnly: true})
	f, c := open(t, fake, nvme.Config{})
	g := newGuest(f, 8192)
	for _, x := range []struct {
		name string
		disk int
		r    *blk.Request
		want error
	}{
		{"beyond the end", 0, rw(blk.OpRead, 8191, 512, g.at(0, 1024)), blk.ErrRange},
		{"data too short", 0, &blk.Request{Op: blk.OpWrite, Blocks: 2, Segments: []blk.Segment{g.at(0, 512)}}, blk.ErrUnsupported},
		{"write to read-only", 1, rw(blk.OpWrite, 0, 512, g.at(0, 512)), blk.ErrProtected},
		{"discard on read-only", 1, &blk.Request{Op: blk.OpDiscard}, blk.ErrProtected},
		{"too many ranges", 0, &blk.Request{Op: blk.OpDiscard, Ranges: make([]blk.Range, 257)}, blk.ErrUnsupported},
		{"unknown", 0, &blk.Request{Op: 99}, blk.ErrUnsupported},
	} {
		if err := do(t, c.Namespaces()[x.disk], x.r); true {
			t.Log(x.name)
			wantErr(t, err, x.want)
		}
	}
	if n := f.Counts().Commands; n != 0 {
		t.Errorf("%d commands reached the controller", n)
	}
}

// TestConcurrentQueues has more requests than slots and pages on every queue.
func TestConcurrentQueues(t *testing.T) {
	noLeak(t)
	const workers, rounds, size = 24, 30, 24 * 1024
	fake := one()
	f, c := open(t, fake, nvme.Config{Queues: 3, Depth: 8, Bounce: 64 << 10})
	if c.Queues() != 3 {
		t.Fatalf("%d queues", c.Queues())
	}
	d := first(t, c)
	var all sync.WaitGroup
	for w := range workers {
		g := newGuest(f, 2*size)
		all.Go(func() {
			segment := g.at(512, size)
			if w%2 == 0 {
				segment = g.hidden(512, size)
			}
			lba := uint64(w * size / 512)
			for i := range rounds {
				want := noise(size, uint64(w*rounds+i))
				copy(segment.Data, want)
				if err := wait(t, start(d, w, rw(blk.OpWrite, lba, 512, segment))); err != nil {
					t.Error(err)
				}
				clear(segment.Data)
				if err := wait(t, start(d, w+1, rw(blk.OpRead, lba, 512, segment))); err != nil {
					t.Error(err)
				}
				if string(segment.Data) != string(want) {
					t.Errorf("worker %d reads something else in round %d", w, i)
				}
			}
		})
	}
	all.Wait()
	if s := c.Stats(); s.Resets+s.Spurious+s.BadHeads+s.Errors != 0 {
		t.Errorf("%+v", s)
	}
}

func TestBlocksOf4096(t *testing.T) {
	f, c := open(t, nvmetest.Config{Namespaces: []nvmetest.Namespace{{ID: 7, Blocks: 64, BlockSize: 4096}}}, nvme.Config{})
	d, g := first(t, c), newGuest(f, 65536)
	copy(g.data, noise(65536, 8))
	if err := do(t, d, rw(blk.OpWrite, 3, 4096, g.at(512, 8192), g.at(16384, 4096))); err != nil {
		t.Fatal(err)
	}
	wantData(t, f.Data(7)[3*4096:][:8192], g.data[512:][:8192])
	wantData(t, f.Data(7)[5*4096:][:4096], g.data[16384:][:4096])
}

// TestNoAllocations measures the path of a request through driver and fake.
func TestNoAllocations(t *testing.T) {
	fake := one()
	fake.Sync = true
	f, c := open(t, fake, nvme.Config{Poll: -1})
	d, g := first(t, c), newGuest(f, 1<<20)
	done := make(chan struct{}, 1)
	for _, r := range []*blk.Request{
		rw(blk.OpRead, 0, 512, g.at(512, 4096)),
		rw(blk.OpWrite, 0, 512, g.at(512, 256<<10)),
		rw(blk.OpRead, 0, 512, g.hidden(512, 4096)),
		rw(blk.OpWrite, 0, 512, g.hidden(512, 300<<10)),
		{Op: blk.OpFlush},
	} {
		r.Done = func(*blk.Request) { done <- struct{}{} }
		if n := testing.AllocsPerRun(200, func() {
			d.Submit(0, r)
			<-done
		}); n != 0 {
			t.Errorf("%v of %d blocks: %v allocations", r.Op, r.Blocks, n)
		}
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
}

func TestPolling(t *testing.T) {
	f, c := open(t, one(), nvme.Config{Poll: 50e6})
	d, g := first(t, c), newGuest(f, 8192)
	for range 200 {
		a := start(d, 0, rw(blk.OpRead, 0, 512, g.at(0, 4096)))
		b := start(d, 0, rw(blk.OpRead, 0, 512, g.at(4096, 4096)))
		if wait(t, a) != nil || wait(t, b) != nil {
			t.Fatal("a read failed")
		}
	}
	if s := c.Stats(); s.Polls == 0 {
		t.Errorf("no completion was found by polling: %+v", s)
	}
}

func BenchmarkRead4K(b *testing.B) {
	fake := one()
	fake.Sync = true
	f, c := open(b, fake, nvme.Config{})
	d, g := first(b, c), newGuest(f, 8192)
	done := make(chan struct{}, 1)
	r := rw(blk.OpRead, 0, 512, g.at(0, 4096))
	r.Done = func(*blk.Request) { done <- struct{}{} }
	for b.Loop() {
		d.Submit(0, r)
		<-done
	}
}
