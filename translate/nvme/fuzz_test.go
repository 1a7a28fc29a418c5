package nvme_test

import (
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"keel/translate/blk"
	"keel/translate/nvme"
	"keel/translate/nvme/nvmetest"
)

// script gives the fuzzer's bytes, one after the other, zeroes behind the last.
type script struct{ rest []byte }

func (s *script) byte() byte {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b
}

func (s *script) half() uint16 { return uint16(s.byte()) | uint16(s.byte())<<8 }

// action lets the bytes decide what becomes of a command.
func (s *script) action() nvmetest.Action {
	value, word := s.half(), uint32(s.half())<<16
	switch s.byte() % 32 {
	case 1:
		return nvmetest.Action{Status: value & 0x7fff}
	case 2:
		return nvmetest.Action{Drop: true}
	case 3:
		return nvmetest.Action{Delay: time.Duration(value) * time.Microsecond / 4}
	case 4:
		return nvmetest.Action{Twice: true}
	case 5:
		return nvmetest.Action{ID: &value}
	case 6:
		return nvmetest.Action{Queue: &value}
	case 7:
		return nvmetest.Action{Head: &value}
	case 8:
		word |= uint32(value)
		return nvmetest.Action{Result: &word}
	case 9, 10, 11:
		n := int(s.byte()%16) + 1
		return nvmetest.Action{Data: func(b []byte) {
			for range n {
				at := int(s.half()) % max(len(b), 1)
				if at < len(b) {
					b[at] = s.byte()
				}
			}
		}}
	}
	return nvmetest.Action{}
}

// FuzzController lets the bytes drive what a controller answers. Whatever it is,
// every request ends once, in time, and nothing outside of the memory is named to
// the controller.
func FuzzController(f *testing.F) {
	for _, seed := range [][]byte{
		nil,
		{0, 0, 0, 0},
		{1, 0, 0, 0, 0, 0x81, 2, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 4},
		{3, 0, 0x12, 0, 5, 0xff, 0xff, 0, 0, 5, 0xff, 0xff, 0, 0, 7, 0xff, 0xff, 0, 0, 6},
		{0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 8, 77, 0, 12, 26, 0, 3, 128, 0, 9},
		{0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2},
		{0, 0x3c, 0, 0},
		{0, 0xc3, 1, 9},
		{0, 4, 7, 7},
	} {
		f.Add(seed)
	}
	f.Fuzz(hostile)
}

// TestHostileControllers plays scripts of random bytes.
func TestHostileControllers(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { hostile(t, random(seed)) })
	}
}

// random makes a script that mostly behaves, so that it gets far.
func random(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 3))
	calm := r.IntN(40)
	head := []byte{byte(r.Uint32()), byte(r.Uint32()), 0, byte(r.Uint32())}
	for range 600 {
		kind := byte(0)
		if r.IntN(calm+1) == 0 {
			kind = byte(r.Uint32())
		}
		head = append(head, byte(r.Uint32()), byte(r.Uint32()>>r.IntN(32)), byte(r.Uint32()), byte(r.Uint32()), kind)
	}
	return head
}

// hostile runs a driver on a controller that the bytes drive.
func hostile(t *testing.T, data []byte) {
	t.Helper()
	config := nvme.Config{
		Queues: 2, Depth: 5, Bounce: 64 << 10,
		IOTimeout: 16 * time.Millisecond, AbortTimeout: 4 * time.Millisecond,
		AdminTimeout: 12 * time.Millisecond, ReadyTimeout: 20 * time.Millisecond, ShutdownTimeout: 10 * time.Millisecond,
		StartTimeout: 100 * time.Millisecond,
		Retries:      2, Resets: 2, MaxNamespaces: 4,
	}
	noLeak(t)
	s := &script{data}
	fake := nvmetest.Config{
		MDTS: s.byte() % 4, SGL: uint32(s.byte() % 4), Entries: 8,
		Namespaces: []nvmetest.Namespace{{ID: 1, Blocks: 512}, {ID: 2, Blocks: 64, BlockSize: 4096}},
	}
	switch s.byte() {
	case 0xf1:
		fake.CAP = uint64(s.half()) | uint64(s.half())<<16 | uint64(s.half())<<32 | uint64(s.half())<<48
	case 0xf2:
		fake.VS = uint32(s.half()) << 8
	}
	flags := s.byte()
	fc := nvmetest.New(t, fake)
	fc.Set(func(to *nvmetest.Faults) {
		to.Hook = func(nvmetest.Command) nvmetest.Action { return s.action() }
		to.IgnoreAborts, to.StuckReady = flags&1 != 0, flags&2 != 0
		to.IgnoreReset, to.MasterFails = flags&4 != 0, flags&8 != 0
		to.NoInterrupts = flags&16 != 0
	})
	c, err := nvme.Open(fc, config)
	if err != nil {
		if !fc.Closed() {
			t.Error("the function was not closed")
		}
		return
	}
	exercise(t, fc, c, flags)
}

// exercise sends requests of every kind to every namespace, takes something away
// under way, and checks that each ends once.
func exercise(t *testing.T, fc *nvmetest.Controller, c *nvme.Controller, flags byte) {
	t.Helper()
	g := newGuest(fc, 1<<20)
	var submitted int
	var ended atomic.Int32
	all := make(chan struct{}, 1000)
	for i, d := range c.Namespaces() {
		// Requests share no memory: what the controller writes for one is not read for
		// another.
		base := (i % 4) << 18
		d.Watch(func(blk.Event) {})
		size := int(d.Info().BlockSize)
		requests := []*blk.Request{
			rw(blk.OpRead, 0, size, g.at(base, 8192)),
			rw(blk.OpRead, 1, size, g.at(base+20480, 16384), g.at(base+65536, 4096)),
			rw(blk.OpWrite, 2, size, g.hidden(base+131072, 32768), g.at(base+69632, 4096)),
			rw(blk.OpCompare, 0, size, g.at(base+81920, 4096)),
			{Op: blk.OpFlush},
			{Op: blk.OpWriteZeroes, Blocks: 8, Unmap: true},
			{Op: blk.OpDiscard, Ranges: []blk.Range{{LBA: 1, Blocks: 3}, {LBA: 9, Blocks: 1}}},
		}
		for i, r := range requests {
			submitted++
			var once atomic.Bool
			r.Done = func(*blk.Request) {
				if once.Swap(true) {
					t.Error("a request ended twice")
				}
				ended.Add(1)
				all <- struct{}{}
			}
			d.Submit(i, r)
			if flags&32 != 0 && i%3 == 0 {
				d.Cancel(r)
			}
		}
	}
	switch flags >> 6 {
	case 1:
		fc.Vanish()
	case 2:
		fc.Unplug()
	case 3:
		fc.Fail()
	}
	late := time.After(patience)
	for range submitted {
		select {
		case <-all:
		case <-late:
			t.Fatalf("%d of %d requests ended: %+v", ended.Load(), submitted, c.Stats())
		}
	}
	// What the controller is told to reach from here on is not the requests'.
	fc.Revoke(g.dma)
	fc.MoveLate()
	c.Close()
	if n := int(ended.Load()); n != submitted {
		t.Errorf("%d of %d requests ended", n, submitted)
	}
}
