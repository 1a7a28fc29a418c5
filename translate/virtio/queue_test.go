package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"keel/translate/virtio/virtiotest"
)

// modes are the ways in which rings are used.
var modes = []struct {
	name     string
	features uint64
}{
	{"plain", plain},
	{"indirect", plain | uint64(FeatureIndirect)},
	{"events", plain | uint64(FeatureEventIndex)},
	{"all", allFlags},
}

func TestEcho(t *testing.T) {
	for _, m := range modes {
		b := newBench(t)
		r := b.start(t, 8, m.features)
		for i := range 100 { // the indices wrap around the ring
			text := fmt.Sprintf("request %d", i)
			out, in := b.buffer(text), b.buffer("                ")
			head, ok := r.Add([]virtiotest.Buffer{{GPA: out.GPA, Size: 3}, {GPA: out.GPA + 3, Size: out.Size - 3}}, []virtiotest.Buffer{in})
			if !ok {
				t.Fatalf("%s: no room", m.name)
			}
			r.Kick()
			id, n, ok := r.Poll()
			if !ok || id != head || int(n) != len(text) || string(b.View(in.GPA, len(text))) != text {
				t.Fatalf("%s: %d: used %v, id %d, %d bytes, %q", m.name, i, ok, id, n, b.View(in.GPA, len(text)))
			}
		}
		if s := b.device.Stats(); s.Queues[0].Chains != 100 || s.Broken != 0 || s.Refused != 0 {
			t.Errorf("%s: %+v", m.name, s)
		}
	}
}

// TestIndexWrap runs the 16-bit indices around.
func TestIndexWrap(t *testing.T) {
	for _, m := range modes {
		b := newBench(t)
		r := b.start(t, 64, m.features)
		out := []virtiotest.Buffer{b.buffer("x")}
		for i := 0; i < 70000; i += 50 {
			for range 50 {
				r.Add(out, nil)
			}
			r.Kick()
			for n := range 50 {
				if _, _, ok := r.Poll(); !ok {
					t.Fatalf("%s: %d of the chains before %d are missing", m.name, 50-n, i+50)
				}
			}
		}
	}
}

func TestUsedBufferNotifications(t *testing.T) {
	for _, m := range modes {
		b := newBench(t)
		r := b.start(t, 16, m.features)
		out := []virtiotest.Buffer{b.buffer("x")}
		batch := func(n int) {
			for range n {
				r.Add(out, nil)
			}
			r.Kick()
			for range n {
				r.Poll()
			}
		}
		r.Want()
		batch(5)
		if got := b.vectors.Count(1); got != 1 {
			t.Errorf("%s: %d interrupts for a batch of 5", m.name, got)
		}
		r.Unwant()
		batch(5)
		batch(1)
		if got := b.vectors.Count(1); got != 1 {
			t.Errorf("%s: %d interrupts, none was wanted", m.name, got-1)
		}
		r.Want()
		batch(1)
		if got := b.vectors.Count(1); got != 2 {
			t.Errorf("%s: %d interrupts after one was wanted again", m.name, got-1)
		}
		// Those that complete later interrupt one by one.
		b.handler.keep.Store(true)
		r.Want()
		r.Add(out, nil)
		r.Kick()
		b.handler.let()
		if got := b.vectors.Count(1); got != 3 {
			t.Errorf("%s: %d interrupts for one that completes later", m.name, got-2)
		}
	}
}

// TestEventInTheMiddle asks for an interrupt at an index that a batch passes
// (§2.7.7.2).
func TestEventInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		event uint16
		want  uint64
	}{{0, 1}, {2, 1}, {4, 1}, {5, 0}, {0xffff, 0}, {0x8000, 0}} {
		b := newBench(t)
		r := b.start(t, 16, allFlags)
		binary.LittleEndian.PutUint16(r.Avail[4+2*16:], c.event)
		for range 5 {
			r.Add([]virtiotest.Buffer{b.buffer("x")}, nil)
		}
		r.Kick()
		if got := b.vectors.Count(1); got != c.want {
			t.Errorf("event %#x: %d interrupts for used index 5, want %d", c.event, got, c.want)
		}
	}
}

func TestAvailableBufferNotifications(t *testing.T) {
	for _, m := range modes {
		b := newBench(t)
		r := b.start(t, 16, m.features)
		out := []virtiotest.Buffer{b.buffer("x")}
		events := m.features&uint64(FeatureEventIndex) != 0
		for range 5 {
			r.Add(out, nil)
			r.Kick()
			r.Poll()
		}
		if r.Kicks != 5 {
			t.Errorf("%s: %d notifications of 5, the ring was empty each time", m.name, r.Kicks)
		}
		// What the ring says once it was empty: notify me.
		event := binary.LittleEndian.Uint16(r.Used[4+8*16:])
		if flags := r.Used[0]; flags != 0 || events && event != 5 {
			t.Errorf("%s: flags %d, event %d", m.name, flags, event)
		}
		// A handler that leaves chains in the ring is not told of more.
		b.handler.idle.Store(true)
		for range 4 {
			r.Add(out, nil)
			r.Kick()
		}
		if _, _, ok := r.Poll(); ok {
			t.Errorf("%s: a chain came back from an idle handler", m.name)
		}
		b.handler.idle.Store(false)
		b.device.Queue(0).Kick()
		for i := range 4 {
			if _, _, ok := r.Poll(); !ok {
				t.Errorf("%s: chain %d was forgotten", m.name, i)
			}
		}
	}
}

// TestChainBetweenTheLooks offers a chain after the device has found the ring
// empty and before it asks for a notification: the driver does not notify then, so
// that the device must look again.
func TestChainBetweenTheLooks(t *testing.T) {
	for _, m := range modes {
		b := newBench(t)
		r := b.start(t, 16, m.features)
		ring := b.device.Queue(0).ring.Load()
		if !ring.rearm() {
			t.Errorf("%s: an empty ring is not empty", m.name)
		}
		r.Add([]virtiotest.Buffer{b.buffer("x")}, nil)
		if ring.rearm() {
			t.Errorf("%s: the chain was overlooked", m.name)
		}
	}
}

func TestBrokenAvailableRing(t *testing.T) {
	for _, c := range []struct {
		name  string
		index uint16
	}{{"one too many", 9}, {"backwards", 0xffff}, {"far", 0x8000}} {
		b := newBench(t)
		b.Negotiate(plain)
		b.SetCommon(0x10, 2, 0)
		r := b.AddRing(0, 8, plain)
		b.Run()
		binary.LittleEndian.PutUint16(r.Avail[2:], c.index)
		r.Kick()
		r.Kick()
		s := b.device.Stats()
		if s.Broken != 1 || !errors.Is(s.Cause, errIndex) || !errors.Is(s.Cause, ErrRing) || b.vectors.Count(0) != 1 {
			t.Errorf("%s: %+v, %d interrupts", c.name, s, b.vectors.Count(0))
		}
		if b.Status() != 0x4f {
			t.Errorf("%s: status %#x", c.name, b.Status())
		}
		b.start(t, 8, plain) // a reset mends it
		if b.Status() != 0xf {
			t.Errorf("%s: status %#x after a reset", c.name, b.Status())
		}
	}
}

func TestMoreChainsThanTheQueueHolds(t *testing.T) {
	b := newBench(t)
	b.handler.keep.Store(true)
	r := b.start(t, 8, plain)
	virtiotest.SetDescriptor(r.Desc, 0, data, 1, 0, 0)
	for range 8 {
		r.Offer(0) // the same one again and again
	}
	r.Kick()
	if len(b.handler.kept) != 8 || b.device.Stats().Broken != 0 {
		t.Fatalf("%d chains, %+v", len(b.handler.kept), b.device.Stats())
	}
	r.Offer(0)
	b.Notify(0)
	waitFor(t, func() bool { return b.device.Stats().Broken == 1 })
	if !errors.Is(b.device.Stats().Cause, errInFlight) {
		t.Errorf("cause %v", b.device.Stats().Cause)
	}
	// What is in flight may still complete.
	b.handler.let()
	if used := binary.LittleEndian.Uint16(r.Used[2:]); used != 8 {
		t.Errorf("used index %d", used)
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("timed out")
		}
	}
}

// refiller offers each chain again as soon as it was taken: a call that did not
// bound itself would never return.
type refiller struct {
	echo
	ring *virtiotest.Ring
	mu   sync.Mutex
	n    int
	most int
}

func (f *refiller) Available(q *Queue) {
	n := 0
	for c := q.Next(); c != nil; c = q.Next() {
		n++
		c.Complete(0)
		f.mu.Lock()
		if f.n++; f.n < 1000 {
			f.ring.Offer(0)
		}
		f.mu.Unlock()
	}
	f.most = max(f.most, n)
}

func TestACallIsBounded(t *testing.T) {
	f := &refiller{}
	b := newBench(t, func(c *Config) { c.Handler = f })
	r := b.start(t, 8, plain)
	f.ring = r
	virtiotest.SetDescriptor(r.Desc, 0, data, 1, 0, 0)
	r.Offer(0)
	b.Notify(0)
	waitFor(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.n == 1000
	})
	b.device.Reset()
	if f.most > 8 || b.device.Stats().Queues[0].HandedOver < 100 {
		t.Errorf("a call took %d chains; %d handed over", f.most, b.device.Stats().Queues[0].HandedOver)
	}
}

// blocker stays in Available until it is let go.
type blocker struct {
	echo
	inside, leave chan struct{}
}

func (k *blocker) Available(q *Queue) {
	if k.inside != nil {
		k.inside <- struct{}{}
		<-k.leave
	}
	k.echo.Available(q)
}

func TestNotificationsDoNotWaitForEachOther(t *testing.T) {
	k := &blocker{inside: make(chan struct{}), leave: make(chan struct{})}
	b := newBench(t, func(c *Config) { c.Handler = k })
	b.Negotiate(plain)
	r := b.AddRing(0, 8, plain)
	in := k.inside
	k.inside = nil
	b.Run()
	k.inside = in
	var first sync.WaitGroup
	first.Go(func() { b.device.Queue(0).Kick() })
	<-k.inside
	r.Add([]virtiotest.Buffer{b.buffer("x")}, nil)
	r.Add([]virtiotest.Buffer{b.buffer("y")}, nil)
	b.Notify(0) // would deadlock if it waited
	k.leave <- struct{}{}
	<-k.inside // the first call looks again
	k.leave <- struct{}{}
	first.Wait()
	k.inside = nil
	for i := range 2 {
		if _, _, ok := r.Poll(); !ok {
			t.Errorf("chain %d is missing", i)
		}
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	for _, m := range modes {
		b := newBench(t)
		r := b.start(t, 64, m.features)
		table := b.Allocate(64)
		for i := range 4 {
			flags := uint16(next)
			if i == 3 {
				flags = 0
			}
			if m.features&uint64(FeatureIndirect) == 0 {
				virtiotest.SetDescriptor(r.Desc, i, data, 512, flags, uint16(i+1))
				continue
			}
			virtiotest.SetDescriptor(b.View(table, 64), i, data, 512, flags, uint16(i+1))
			virtiotest.SetDescriptor(r.Desc, 0, table, 64, indirect, 0)
		}
		r.Want()
		offer := func() {
			for range 16 {
				r.Offer(0)
			}
			b.device.PCI().Signal(0)
			b.device.Queue(0).Kick()
		}
		if n := testing.AllocsPerRun(100, offer); n != 0 {
			t.Errorf("%s: %v allocations", m.name, n)
		}
		if s := b.device.Stats(); s.Broken != 0 || s.Queues[0].Chains < 1600 {
			t.Errorf("%s: %+v", m.name, s)
		}
	}
}
