package nvme_test

import (
	"testing"
	"time"

	"keel/translate/blk"
	"keel/translate/nvme"
	"keel/translate/nvme/nvmetest"
)

// next waits for an event.
func next[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case e := <-from:
		return e
	case <-time.After(patience):
		t.Fatal("no event")
		panic("unreachable")
	}
}

func TestNamespaceEvents(t *testing.T) {
	noLeak(t)
	added := make(chan *nvme.Namespace, 10)
	config := nvme.Config{Added: func(n *nvme.Namespace) { added <- n }}
	f, c := open(t, one(), config)
	d := first(t, c)
	events := make(chan blk.Event, 10)
	d.Watch(func(e blk.Event) { events <- e })

	f.Resize(1, 9000)
	if e := next(t, events); e != blk.EventResized || d.Info().Blocks != 9000 {
		t.Errorf("event %v, %d blocks", e, d.Info().Blocks)
	}
	f.Add(nvmetest.Namespace{ID: 5, Blocks: 16})
	n := next(t, added)
	if n.NSID() != 5 || len(c.Namespaces()) != 2 {
		t.Errorf("namespace %d appeared, there are %d", n.NSID(), len(c.Namespaces()))
	}
	g := newGuest(f, 4096)
	if err := do(t, n, rw(blk.OpRead, 0, 512, g.at(0, 4096))); err != nil {
		t.Error(err)
	}
	f.Remove(1)
	if e := next(t, events); e != blk.EventRemoved {
		t.Errorf("event %v", e)
	}
	wantErr(t, do(t, d, rw(blk.OpRead, 0, 512, g.at(0, 4096))), blk.ErrRemoved)
	// The number comes back with another disk.
	f.Add(nvmetest.Namespace{ID: 1, Blocks: 32, NGUID: [16]byte{9}})
	if n := next(t, added); n == d || n.Info().ID != [16]byte{9} {
		t.Errorf("%v came back as itself", n)
	}
	if s := c.Stats(); s.Events < 4 {
		t.Errorf("%d events", s.Events)
	}
	c.Close()
}

func TestReplacedNamespace(t *testing.T) {
	fake := nvmetest.Config{Namespaces: []nvmetest.Namespace{{ID: 1, Blocks: 64, UUID: [16]byte{1}}}}
	f, c := open(t, fake, nvme.Config{})
	d := first(t, c)
	f.Add(nvmetest.Namespace{ID: 1, Blocks: 64, UUID: [16]byte{2}})
	eventually(t, "replacement", func() bool {
		list := c.Namespaces()
		return len(list) == 1 && list[0] != d && list[0].UUID() == [16]byte{2}
	})
	wantErr(t, do(t, d, &blk.Request{Op: blk.OpFlush}), blk.ErrRemoved)
}

// TestEventBeforeWatch keeps an event for the watcher who comes later.
func TestEventBeforeWatch(t *testing.T) {
	f, c := open(t, one(), nvme.Config{})
	d := first(t, c)
	f.Remove(1)
	eventually(t, "removal", func() bool { return len(c.Namespaces()) == 0 })
	events := make(chan blk.Event, 1)
	d.Watch(func(e blk.Event) { events <- e })
	if e := next(t, events); e != blk.EventRemoved {
		t.Errorf("event %v", e)
	}
}

// TestEventStorm has a controller that answers every event request at once.
func TestEventStorm(t *testing.T) {
	config := quick
	config.IOTimeout = time.Second
	f, c := open(t, one(), config)
	f.Set(func(to *nvmetest.Faults) {
		to.Hook = func(cmd nvmetest.Command) nvmetest.Action {
			if cmd.Queue == 0 && cmd.Opcode == 0x0c {
				return nvmetest.Action{Delay: time.Microsecond, Twice: true}
			}
			return nvmetest.Action{}
		}
	})
	f.Event(2, 0, 4)
	for i := range 1000 {
		f.Event(byte(i%8), 0, byte(i%256))
	}
	g := newGuest(f, 4096)
	for range 50 {
		if err := do(t, first(t, c), rw(blk.OpRead, 0, 512, g.at(0, 4096))); err != nil {
			t.Error(err)
		}
	}
	if s := c.Stats(); s.Admin > 2000 {
		t.Errorf("%d admin commands", s.Admin)
	}
}

// TestResizeDuringReset finds what changed while no event could come.
func TestResizeDuringReset(t *testing.T) {
	f, c := open(t, one(), quick)
	d := first(t, c)
	events := make(chan blk.Event, 1)
	d.Watch(func(e blk.Event) { events <- e })
	f.Fail()
	f.Resize(1, 100)
	if e := next(t, events); e != blk.EventResized || d.Info().Blocks != 100 {
		t.Errorf("event %v, %d blocks", e, d.Info().Blocks)
	}
}
