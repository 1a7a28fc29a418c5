package virtio

import (
	"sync"
	"sync/atomic"
	"testing"

	"keel/hcl/abi/x86"
	"keel/translate/blk"
	"keel/translate/virtio/virtiotest"
	"keel/vtl/guestmem"
)

const (
	mib      = 1 << 20
	ringBase = x86.GPA(0x10000)
	allFlags = uint64(FeatureVersion1 | FeatureIndirect | FeatureEventIndex | FeatureRingReset)
	plain    = uint64(FeatureVersion1)
)

// echo copies what it reads to what it writes. It completes chains at once, or
// keeps them until it is told.
type echo struct {
	keep     atomic.Bool
	idle     atomic.Bool // leaves chains in the ring
	resets   atomic.Uint64
	cancels  atomic.Int64
	config   [2]atomic.Uint32
	onCancel func()

	mu   sync.Mutex
	kept []*Chain
}

func (e *echo) Available(q *Queue) {
	if e.idle.Load() {
		return
	}
	for c := q.Next(); c != nil; c = q.Next() {
		if e.keep.Load() {
			e.mu.Lock()
			e.kept = append(e.kept, c)
			e.mu.Unlock()
			continue
		}
		finish(c)
	}
}

// finish copies and completes.
func finish(c *Chain) {
	n := 0
	for len(c.Readable) > 0 && len(c.Writable) > 0 {
		k := copy(c.Writable[0].Data, c.Readable[0].Data)
		n += k
		cut(&c.Readable, k)
		cut(&c.Writable, k)
	}
	c.Complete(uint32(n))
}

// let completes what was kept.
func (e *echo) let() int {
	e.mu.Lock()
	kept := e.kept
	e.kept = nil
	e.mu.Unlock()
	for _, c := range kept {
		finish(c)
	}
	return len(kept)
}

func (e *echo) Cancel(int) {
	e.cancels.Add(1)
	if e.onCancel != nil {
		e.onCancel()
	}
}

func (e *echo) Reset() { e.resets.Add(1) }

func (e *echo) ReadConfig(offset, size int) uint32 {
	return uint32(uint64(e.config[offset/4].Load())>>(8*(offset%4))) & uint32(1<<(8*size)-1)
}

func (e *echo) WriteConfig(offset, _ int, value uint32) { e.config[offset/4].Store(value) }

// bench is a device with two queues, and its guest.
type bench struct {
	*virtiotest.Driver
	handler *echo
	device  *Device
	vectors *virtiotest.Vectors
	memory  *guestmem.Memory
}

func newBench(tb testing.TB, change ...func(*Config)) *bench {
	tb.Helper()
	m, err := guestmem.New(4*mib, guestmem.Layout{LowTop: 2 * mib, HighBase: 1 << 32}, false)
	if err != nil {
		tb.Fatal(err)
	}
	b := &bench{handler: &echo{}, vectors: &virtiotest.Vectors{}, memory: m}
	c := Config{
		Type: 8, Class: 0x010000, Features: 7, ConfigSize: 8, Queues: []uint16{64, 16},
		Memory: m, MSI: b.vectors, Handler: b.handler,
	}
	for _, f := range change {
		f(&c)
	}
	b.device, err = New(c)
	if err != nil {
		tb.Fatal(err)
	}
	b.Driver = virtiotest.New(tb, b.device.PCI(), m, ringBase)
	tb.Cleanup(func() {
		b.handler.keep.Store(false)
		b.handler.onCancel = func() { b.handler.let() }
		b.handler.let()
		b.device.Reset()
		if err := m.Close(); err != nil {
			tb.Error(err)
		}
	})
	return b
}

// start brings the device up with one ring on queue 0.
func (b *bench) start(tb testing.TB, size uint16, features uint64) *virtiotest.Ring {
	tb.Helper()
	if !b.Negotiate(features) {
		tb.Fatalf("features %#x were refused", features)
	}
	r := b.AddRing(0, size, features)
	b.Run()
	if b.Status() != 0xf {
		tb.Fatalf("status %#x after the start", b.Status())
	}
	return r
}

// buffer returns guest memory with contents.
func (b *bench) buffer(contents string) virtiotest.Buffer {
	at := b.Allocate(len(contents))
	copy(b.View(at, len(contents)), contents)
	return virtiotest.Buffer{GPA: at, Size: uint32(len(contents))}
}

func lengths(list []blk.Segment) []int {
	var n []int
	for _, s := range list {
		n = append(n, len(s.Data))
	}
	return n
}
