package nvme_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"keel/translate/blk"
	"keel/translate/nvme/nvmetest"
)

// The requests of one round.
const (
	bounced     = 48
	bouncedSize = 12 << 10
)

// exchange is a request of an isolated guest: all its data goes through the pool.
type exchange struct {
	request *blk.Request
	data    []byte
	op      blk.Op
	at      int // in the namespace, in bytes
	want    []byte

	mu    sync.Mutex
	ended int
	then  []byte // the guest's buffer when the request ended
}

// TestBounceOfHostileCompletions: a controller drops completions, repeats them, and
// changes their order, while the guest's own memory is out of its reach. Each request
// ends once, with its own data; nothing touches a buffer whose request has ended.
func TestBounceOfHostileCompletions(t *testing.T) {
	for name, act := range map[string]func(r *rand.Rand) nvmetest.Action{
		"reordered": func(r *rand.Rand) nvmetest.Action {
			return nvmetest.Action{Delay: time.Duration(r.IntN(4000)) * time.Microsecond}
		},
		"repeated": func(r *rand.Rand) nvmetest.Action {
			return nvmetest.Action{Twice: r.IntN(4) == 0, Delay: time.Duration(r.IntN(500)) * time.Microsecond}
		},
		"dropped": func(r *rand.Rand) nvmetest.Action { return nvmetest.Action{Drop: r.IntN(24) == 0} },
		"all three": func(r *rand.Rand) nvmetest.Action {
			return nvmetest.Action{Drop: r.IntN(40) == 0, Twice: r.IntN(8) == 0, Delay: time.Duration(r.IntN(2000)) * time.Microsecond}
		},
	} {
		for seed := range uint64(3) {
			t.Run(name+"/"+strconv.FormatUint(seed, 10), func(t *testing.T) { exchangeAll(t, rand.New(rand.NewPCG(seed, 5)), act) })
		}
	}
}

func exchangeAll(t *testing.T, random *rand.Rand, act func(r *rand.Rand) nvmetest.Action) {
	t.Helper()
	noLeak(t)
	config := quick
	config.Queues, config.Depth, config.Bounce = 2, 8, 64<<10
	config.Retries, config.Resets = 20, 100
	f, c := open(t, one(), config)
	d := first(t, c)
	disk := noise(bounced*bouncedSize, 21)
	f.Fill(1, disk)
	var mu sync.Mutex
	hook(f, func(int, nvmetest.Command) nvmetest.Action {
		mu.Lock()
		defer mu.Unlock()
		return act(random)
	})
	all := make([]*exchange, bounced)
	done := make(chan struct{}, 2*bounced)
	for i := range all {
		x := &exchange{data: noise(bouncedSize, uint64(100+i)), op: blk.OpRead, at: i * bouncedSize}
		x.want = disk[x.at : x.at+bouncedSize]
		if i%3 == 0 {
			x.op, x.want = blk.OpWrite, slices.Clone(x.data)
		}
		x.request = rw(x.op, uint64(x.at/512), 512, blk.Segment{Data: x.data, DMA: blk.NoDMA})
		x.request.Done = func(*blk.Request) {
			x.mu.Lock()
			x.ended++
			x.then = slices.Clone(x.data)
			x.mu.Unlock()
			done <- struct{}{}
		}
		all[i] = x
		d.Submit(i, x.request)
	}
	late := time.After(patience)
	for n := range all {
		select {
		case <-done:
		case <-late:
			t.Fatalf("%d of %d requests ended: %+v", n, len(all), c.Stats())
		}
	}
	// What the controller was told, it may still do: none of it is the guest's any more.
	f.Revive()
	f.MoveLate()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	stored := f.Data(1)
	for i, x := range all {
		x.mu.Lock()
		got := x.want
		if x.op == blk.OpWrite {
			got = stored[x.at : x.at+bouncedSize]
		}
		switch {
		case x.ended != 1:
			t.Errorf("request %d ended %d times", i, x.ended)
		case !bytes.Equal(x.data, x.then):
			t.Errorf("the buffer of request %d changed after its end", i)
		case x.request.Err != nil:
			t.Errorf("request %d: %v", i, x.request.Err)
		case !bytes.Equal(x.data, x.want) || !bytes.Equal(got, x.want):
			t.Errorf("request %d has the data of another one", i)
		}
		x.mu.Unlock()
	}
	if s := f.Counts(); s.Strays != 0 {
		t.Errorf("%d accesses outside of what the controller may reach", s.Strays)
	}
	t.Logf("%+v", c.Stats())
}
