package virtio

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"keel/hcl/abi/x86"
	"keel/translate/virtio/virtiotest"
)

func TestResetWaitsForChains(t *testing.T) {
	b := newBench(t)
	b.handler.keep.Store(true)
	r := b.start(t, 8, allFlags)
	in := b.buffer("....")
	r.Add([]virtiotest.Buffer{b.buffer("data")}, []virtiotest.Buffer{in})
	r.Add([]virtiotest.Buffer{b.buffer("more")}, nil)
	r.Kick()
	resets := b.handler.resets.Load()
	b.SetStatus(0)
	if b.Status() == 0 || b.handler.cancels.Load() < 1 {
		t.Fatalf("status %#x with chains in flight, %d cancelled", b.Status(), b.handler.cancels.Load())
	}
	// Nothing can be set up meanwhile.
	refused := b.device.Stats().Refused
	b.SetStatus(1)
	b.SetCommon(0x16, 2, 0)
	b.SetCommon(0x1c, 2, 1)
	b.SetStatus(0)
	if b.Status() == 0 || b.device.Stats().Refused != refused+3 {
		t.Errorf("status %#x, %d refused", b.Status(), b.device.Stats().Refused-refused)
	}
	if n := b.handler.let(); n != 2 {
		t.Fatalf("%d chains", n)
	}
	if b.Status() != 0 || b.handler.resets.Load() != resets+1 {
		t.Errorf("status %#x after the last chain", b.Status())
	}
	if used := binary.LittleEndian.Uint16(r.Used[2:]); used != 0 || b.vectors.Count(1) != 0 {
		t.Errorf("the old ring got used index %d, %d interrupts", used, b.vectors.Count(1))
	}
	if s := b.device.Stats(); s.Queues[0].Dropped != 2 {
		t.Errorf("%+v", s)
	}
	// The next driver starts from nothing.
	b.handler.keep.Store(false)
	again := b.start(t, 8, plain)
	again.Add([]virtiotest.Buffer{b.buffer("x")}, nil)
	again.Kick()
	if _, _, ok := again.Poll(); !ok {
		t.Error("dead after a reset")
	}
}

func TestQueueReset(t *testing.T) {
	b := newBench(t)
	b.handler.keep.Store(true)
	b.Negotiate(allFlags)
	r0, r1 := b.AddRing(0, 8, allFlags), b.AddRing(1, 8, allFlags)
	b.Run()
	for _, r := range []*virtiotest.Ring{r0, r1} {
		r.Add([]virtiotest.Buffer{b.buffer("x")}, nil)
		r.Kick()
	}
	b.SetCommon(0x16, 2, 0)
	b.SetCommon(0x3a, 2, 1)
	if b.Common(0x3a, 2) != 1 || b.Common(0x1c, 2) != 1 {
		t.Errorf("reset %d, enable %d while the reset goes on", b.Common(0x3a, 2), b.Common(0x1c, 2))
	}
	b.SetCommon(0x18, 2, 4) // not yet
	b.handler.let()
	for _, c := range []struct {
		name   string
		offset int
		want   uint64
	}{{"reset", 0x3a, 0}, {"enable", 0x1c, 0}, {"size", 0x18, 64}, {"vector", 0x1a, 0xffff}, {"address", 0x20, 0}} {
		size := 2
		if c.offset == 0x20 {
			size = 8
		}
		if got := b.Common(x86.GPA(c.offset), size); got != c.want {
			t.Errorf("queue's %s is %#x after its reset, want %#x", c.name, got, c.want)
		}
	}
	if _, _, ok := r0.Poll(); ok {
		t.Error("a chain of the queue that was reset came back")
	}
	if _, _, ok := r1.Poll(); !ok || b.Status() != 0xf {
		t.Error("the other queue suffered")
	}
	b.handler.keep.Store(false)
	r0 = b.AddRing(0, 16, allFlags)
	r0.Add([]virtiotest.Buffer{b.buffer("x")}, nil)
	r0.Kick()
	if _, _, ok := r0.Poll(); !ok {
		t.Error("dead after the queue's reset")
	}
	// A disabled queue has nothing to reset.
	b.SetCommon(0x16, 2, 1)
	b.SetCommon(0x3a, 2, 1)
	b.SetCommon(0x3a, 2, 1)
	if b.Common(0x3a, 2) != 0 {
		t.Error("a disabled queue resets for ever")
	}
}

func TestDeviceResetDuringQueueReset(t *testing.T) {
	b := newBench(t)
	b.handler.keep.Store(true)
	r := b.start(t, 8, allFlags)
	r.Add([]virtiotest.Buffer{b.buffer("x")}, nil)
	r.Kick()
	b.SetCommon(0x3a, 2, 1)
	b.SetStatus(0)
	if b.Status() == 0 {
		t.Fatal("reset with a chain in flight")
	}
	b.handler.let()
	if b.Status() != 0 {
		t.Errorf("status %#x", b.Status())
	}
}

func TestMachineResetWaits(t *testing.T) {
	b := newBench(t)
	b.handler.keep.Store(true)
	r := b.start(t, 8, plain)
	r.Add([]virtiotest.Buffer{b.buffer("x")}, nil)
	r.Kick()
	var done atomic.Bool
	var waiter sync.WaitGroup
	waiter.Go(func() {
		b.device.Reset()
		done.Store(true)
	})
	waitFor(t, func() bool { return b.handler.cancels.Load() > 1 })
	if done.Load() {
		t.Error("did not wait")
	}
	b.handler.let()
	waiter.Wait()
	f := b.device.PCI()
	if f.ReadConfig(0x04, 2) != 0 || f.ReadConfig(0x10, 4) != 4 {
		t.Errorf("command %#x, BAR %#x after a reset", f.ReadConfig(0x04, 2), f.ReadConfig(0x10, 4))
	}
}

// TestResetsUnderLoad resets the device again and again while chains complete on
// other goroutines and other VPs notify: no old completion reaches a new ring.
func TestResetsUnderLoad(t *testing.T) {
	b := newBench(t)
	var stop atomic.Bool
	var others sync.WaitGroup
	b.handler.keep.Store(true)
	others.Go(func() {
		for !stop.Load() {
			b.handler.let()
			runtime.Gosched()
		}
	})
	others.Go(func() {
		for !stop.Load() {
			b.device.Queue(0).Kick()
			runtime.Gosched()
		}
	})
	for i := range 200 {
		b.SetStatus(0)
		waitFor(t, func() bool { return b.Status() == 0 })
		if i%50 == 0 {
			b.Driver = virtiotest.New(t, b.device.PCI(), b.memory, ringBase) // memory again
		}
		r := b.start(t, 8, modes[i%len(modes)].features)
		want := 0
		for range 5 {
			r.Add([]virtiotest.Buffer{b.buffer("x")}, nil)
			want++
		}
		r.Kick()
		if i%2 == 0 {
			continue // in the middle of it
		}
		got := 0
		waitFor(t, func() bool {
			if _, _, ok := r.Poll(); ok {
				got++
			}
			return got == want
		})
		if used := binary.LittleEndian.Uint16(r.Used[2:]); int(used) != want {
			t.Fatalf("round %d: used index %d, want %d", i, used, want)
		}
	}
	stop.Store(true)
	others.Wait()
	if s := b.device.Stats(); s.Broken != 0 {
		t.Errorf("%+v", s)
	}
}

// TestManyVPs notifies one queue from several VPs while chains complete on a
// goroutine; each chain comes back once.
func TestManyVPs(t *testing.T) {
	for _, m := range modes {
		b := newBench(t)
		b.handler.keep.Store(true)
		r := b.start(t, 64, m.features)
		var stop atomic.Bool
		var others sync.WaitGroup
		others.Go(func() {
			for !stop.Load() {
				b.handler.let()
				runtime.Gosched()
			}
		})
		for range 2 {
			others.Go(func() {
				for !stop.Load() {
					b.device.Queue(0).Kick()
					runtime.Gosched()
				}
			})
		}
		out := []virtiotest.Buffer{b.buffer("some bytes")}
		added, used := 0, 0
		waitFor(t, func() bool {
			if added < 2000 {
				if _, ok := r.Add(out, nil); ok {
					added++
					r.Kick()
				}
			}
			if _, _, ok := r.Poll(); ok {
				used++
			}
			return used == 2000
		})
		stop.Store(true)
		others.Wait()
		if s := b.device.Stats(); s.Broken != 0 || s.Queues[0].Chains != 2000 {
			t.Errorf("%s: %+v", m.name, s)
		}
	}
}
