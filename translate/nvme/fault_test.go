package nvme_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"keel/translate/blk"
	"keel/translate/nvme"
	"keel/translate/nvme/nvmetest"
)

// hook sets what the fake does with I/O commands: act sees the how-manieth it is.
func hook(f *nvmetest.Controller, act func(n int, cmd nvmetest.Command) nvmetest.Action) {
	n := 0
	f.Set(func(to *nvmetest.Faults) {
		to.Hook = func(cmd nvmetest.Command) nvmetest.Action {
			if cmd.Queue == 0 {
				return nvmetest.Action{}
			}
			n++
			return act(n, cmd)
		}
	})
}

const doNotRetry = 1 << 14

func TestStatuses(t *testing.T) {
	for _, x := range []struct {
		status   uint16
		want     error
		attempts int
	}{
		{0x001, blk.ErrUnsupported, 1},
		{0x002, blk.ErrUnsupported, 1},
		{0x004, blk.ErrDevice, 4},
		{0x006, blk.ErrDevice, 4},
		{0x006 | doNotRetry, blk.ErrDevice, 1},
		{0x007, blk.ErrDevice, 4},
		{0x00b, blk.ErrRemoved, 1},
		{0x013, blk.ErrDevice, 1},
		{0x020, blk.ErrProtected, 1},
		{0x022, blk.ErrDevice, 4},
		{0x080, blk.ErrRange, 1},
		{0x081, blk.ErrFull, 1},
		{0x082, blk.ErrDevice, 4},
		{0x082 | doNotRetry, blk.ErrDevice, 1},
		{0x083, blk.ErrDevice, 1},
		{0x182, blk.ErrProtected, 1},
		{0x280, blk.ErrMedium, 2},
		{0x281, blk.ErrMedium, 2},
		{0x281 | doNotRetry, blk.ErrMedium, 1},
		{0x282, blk.ErrMedium, 1},
		{0x285, blk.ErrMiscompare, 1},
		{0x286, blk.ErrMedium, 1},
		{0x287, blk.ErrMedium, 1},
		{0x301, blk.ErrDevice, 4},
		{0x7ff, blk.ErrDevice, 1},
	} {
		t.Run(fmt.Sprintf("%#x", x.status), func(t *testing.T) {
			config := quick
			config.Retries = 3
			config.IOTimeout, config.AbortTimeout = 16*time.Millisecond, time.Minute
			f, c := open(t, one(), config)
			g := newGuest(f, 4096)
			attempts := 0
			hook(f, func(n int, _ nvmetest.Command) nvmetest.Action {
				attempts = n
				return nvmetest.Action{Status: x.status}
			})
			wantErr(t, do(t, first(t, c), rw(blk.OpRead, 0, 512, g.at(0, 4096))), x.want)
			if attempts != x.attempts {
				t.Errorf("%d attempts, want %d", attempts, x.attempts)
			}
			if s := c.Stats(); s.Errors != uint64(x.attempts) || s.Retries != uint64(x.attempts-1) {
				t.Errorf("%d errors and %d retries", s.Errors, s.Retries)
			}
		})
	}
}

func TestTransientErrorsHeal(t *testing.T) {
	for _, status := range []uint16{0x006, 0x082, 0x281} {
		f, c := open(t, one(), quick)
		g := newGuest(f, 1<<20)
		f.Fill(1, noise(1<<20, 9))
		seen := make(map[uint64]bool)
		hook(f, func(_ int, cmd nvmetest.Command) nvmetest.Action {
			if !seen[cmd.LBA] {
				seen[cmd.LBA] = true
				return nvmetest.Action{Status: status}
			}
			return nvmetest.Action{}
		})
		if err := do(t, first(t, c), rw(blk.OpRead, 0, 512, g.hidden(0, 1<<20))); err != nil {
			t.Errorf("%#x: %v", status, err)
		}
		wantData(t, g.data, f.Data(1)[:1<<20])
	}
}

// TestErrorOfOnePart lets one command of several fail: the request waits for all.
func TestErrorOfOnePart(t *testing.T) {
	f, c := open(t, one(), nvme.Config{})
	g := newGuest(f, 2<<20)
	hook(f, func(_ int, cmd nvmetest.Command) nvmetest.Action {
		if cmd.LBA == 1024 {
			return nvmetest.Action{Status: 0x281 | doNotRetry}
		}
		return nvmetest.Action{Delay: 5 * time.Millisecond}
	})
	wantErr(t, do(t, first(t, c), rw(blk.OpRead, 0, 512, g.at(0, 2<<20))), blk.ErrMedium)
	if n := f.Hung(); n != 0 {
		t.Errorf("request ended while %d commands were under way", n)
	}
}

func TestTimeoutIsAborted(t *testing.T) {
	f, c := open(t, one(), quick)
	g := newGuest(f, 4096)
	hook(f, func(n int, _ nvmetest.Command) nvmetest.Action { return nvmetest.Action{Drop: n == 1} })
	if err := do(t, first(t, c), rw(blk.OpWrite, 0, 512, g.at(0, 4096))); err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.Timeouts != 1 || s.Aborts != 1 || s.Resets != 0 || s.Retries != 1 {
		t.Errorf("%+v", s)
	}
}

func TestHungCommandResets(t *testing.T) {
	f, c := open(t, one(), quick)
	g := newGuest(f, 1<<20)
	copy(g.data, noise(1<<20, 10))
	f.Set(func(to *nvmetest.Faults) { to.IgnoreAborts = true })
	hook(f, func(n int, _ nvmetest.Command) nvmetest.Action { return nvmetest.Action{Drop: n <= 5} })
	d := first(t, c)
	var all []<-chan error
	for i := range 64 {
		all = append(all, start(d, 0, rw(blk.OpWrite, uint64(i*32), 512, g.at(i*16384, 16384))))
	}
	for _, done := range all {
		if err := wait(t, done); err != nil {
			t.Error(err)
		}
	}
	wantData(t, f.Data(1)[:1<<20], g.data)
	if s := c.Stats(); s.Resets == 0 || s.Replays == 0 {
		t.Errorf("%+v", s)
	}
}

// TestCommandThatAlwaysHangs must not take the controller with it.
func TestCommandThatAlwaysHangs(t *testing.T) {
	f, c := open(t, one(), quick)
	g := newGuest(f, 8192)
	f.Set(func(to *nvmetest.Faults) { to.IgnoreAborts = true })
	hook(f, func(_ int, cmd nvmetest.Command) nvmetest.Action { return nvmetest.Action{Drop: cmd.LBA == 13} })
	d := first(t, c)
	bad := start(d, 0, rw(blk.OpRead, 13, 512, g.at(0, 512)))
	for range 10 {
		if err := do(t, d, rw(blk.OpRead, 0, 512, g.at(4096, 512))); err != nil {
			t.Error(err)
		}
	}
	wantErr(t, wait(t, bad), blk.ErrDevice)
	if err := do(t, d, &blk.Request{Op: blk.OpFlush}); err != nil {
		t.Error(err)
	}
}

func TestFatalStatus(t *testing.T) {
	f, c := open(t, one(), quick)
	g := newGuest(f, 4096)
	d := first(t, c)
	hook(f, func(n int, _ nvmetest.Command) nvmetest.Action { return nvmetest.Action{Drop: n == 1} })
	done := start(d, 0, rw(blk.OpRead, 0, 512, g.at(0, 4096)))
	eventually(t, "command", func() bool { return f.Hung() == 1 })
	f.Fail()
	if err := wait(t, done); err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.Resets != 1 || s.Replays != 1 {
		t.Errorf("%+v", s)
	}
}

func TestLostInterrupts(t *testing.T) {
	patient := quick
	patient.Poll = -1 // a look at the queue would find what no interrupt announced
	f, c := open(t, one(), patient)
	g := newGuest(f, 4096)
	f.Set(func(to *nvmetest.Faults) { to.NoInterrupts = true })
	for range 3 {
		if err := do(t, first(t, c), rw(blk.OpRead, 0, 512, g.at(0, 4096))); err != nil {
			t.Error(err)
		}
	}
	// The last one is counted after its request has ended.
	for deadline := time.Now().Add(time.Minute); c.Stats().Missed < 3 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if s := c.Stats(); s.Missed != 3 || s.Resets != 0 {
		t.Errorf("%+v", s)
	}
}

// TestWrongCompletions makes completions up. The first few are counted; a storm
// resets the controller, and nothing is lost.
func TestWrongCompletions(t *testing.T) {
	ffff, zero := uint16(0xffff), uint16(0)
	for _, x := range []struct {
		name  string
		act   func(n int) nvmetest.Action
		reset bool
		count func(s nvme.Stats) uint64
	}{
		{"duplicates", func(n int) nvmetest.Action { return nvmetest.Action{Twice: n <= 3} }, false, nil},
		{"unknown identifiers", func(n int) nvmetest.Action {
			if n <= 3 {
				return nvmetest.Action{ID: &ffff}
			}
			return nvmetest.Action{}
		}, true, nil}, // the commands whose completions these were do not end
		{"wrong queue", func(n int) nvmetest.Action {
			if n <= 3 {
				return nvmetest.Action{Queue: &zero}
			}
			return nvmetest.Action{}
		}, true, nil},
		{"wrong head", func(n int) nvmetest.Action {
			if n <= 3 {
				return nvmetest.Action{Head: &ffff}
			}
			return nvmetest.Action{}
		}, false, func(s nvme.Stats) uint64 { return s.BadHeads }},
		{"storm of duplicates", func(n int) nvmetest.Action { return nvmetest.Action{Twice: n <= 20} }, true, nil},
		{"storm of heads", func(n int) nvmetest.Action {
			if n <= 20 {
				return nvmetest.Action{Head: &ffff}
			}
			return nvmetest.Action{}
		}, true, func(s nvme.Stats) uint64 { return s.BadHeads }},
	} {
		t.Run(x.name, func(t *testing.T) {
			f, c := open(t, one(), quick)
			d, g := first(t, c), newGuest(f, 1<<20)
			f.Fill(1, noise(1<<20, 11))
			hook(f, func(n int, _ nvmetest.Command) nvmetest.Action { return x.act(n) })
			var all []<-chan error
			for i := range 60 {
				all = append(all, start(d, 0, rw(blk.OpRead, uint64(i*8), 512, g.at(i*4096, 4096))))
			}
			for _, done := range all {
				if err := wait(t, done); err != nil {
					t.Error(err)
				}
			}
			wantData(t, g.data[:60*4096], f.Data(1)[:60*4096])
			s := c.Stats()
			count := s.Spurious
			if x.count != nil {
				count = x.count(s)
			}
			if count < 3 || x.reset != (s.Resets > 0) {
				t.Errorf("%d wrong completions, %+v", count, s)
			}
		})
	}
}

// TestInjectedCompletions must not end commands that still run.
func TestInjectedCompletions(t *testing.T) {
	config := quick
	config.IOTimeout = time.Minute
	f, c := open(t, one(), config)
	d, g := first(t, c), newGuest(f, 4096)
	var id uint16
	hook(f, func(n int, cmd nvmetest.Command) nvmetest.Action {
		id = cmd.ID
		return nvmetest.Action{Drop: n == 2}
	})
	if err := do(t, d, rw(blk.OpRead, 0, 512, g.at(0, 4096))); err != nil {
		t.Fatal(err)
	}
	old := id
	done := start(d, 0, rw(blk.OpRead, 0, 512, g.at(0, 4096)))
	eventually(t, "command", func() bool { return f.Hung() == 1 })
	f.Inject(1, [3]uint16{old, 1, 0}, [3]uint16{0xffff, 1, 0}, [3]uint16{id, 2, 0})
	f.Inject(0, [3]uint16{3, 0, 0}, [3]uint16{0xffff, 0, 0})
	eventually(t, "count", func() bool { return c.Stats().Spurious == 5 })
	select {
	case <-done:
		t.Fatal("request ended with a completion that was not its own")
	default:
	}
	f.Revive()
	if err := wait(t, done); err != nil {
		t.Error(err)
	}
}

// TestControllerThatNeverStartsAgain is given up after so many resets.
func TestControllerThatNeverStartsAgain(t *testing.T) {
	noLeak(t)
	config := quick
	config.ReadyTimeout = 20 * time.Millisecond
	config.Resets = 3
	f, c := open(t, one(), config)
	d, g := first(t, c), newGuest(f, 64<<10)
	f.Set(func(to *nvmetest.Faults) { to.NeverReady = true })
	hook(f, func(int, nvmetest.Command) nvmetest.Action { return nvmetest.Action{Drop: true} })
	var all []<-chan error
	for i := range 300 { // more than there are slots
		all = append(all, start(d, 0, rw(blk.OpRead, uint64(i), 512, g.at(0, 4096))))
	}
	f.Fail()
	for _, done := range all {
		wantErr(t, wait(t, done), blk.ErrDevice)
	}
	wantErr(t, do(t, d, &blk.Request{Op: blk.OpFlush}), blk.ErrDevice)
	if s := c.Stats(); s.Resets != 3 {
		t.Errorf("%d resets, want 3", s.Resets)
	}
	wantErr(t, c.Err(), blk.ErrDevice)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestMemoryIsSafeFromTheOldIncarnation has a controller that does not stop: no
// memory may be given back before it is cut off.
func TestMemoryIsSafeFromTheOldIncarnation(t *testing.T) {
	for _, x := range []struct {
		name   string
		faults func(*nvmetest.Faults)
		want   error
		closed bool
	}{
		{"stops when told", func(*nvmetest.Faults) {}, nil, false},
		{"stops only when reset", func(f *nvmetest.Faults) { f.StuckReady = true }, nil, false},
		{"never stops", func(f *nvmetest.Faults) { f.StuckReady, f.IgnoreReset = true, true }, blk.ErrDevice, false},
		{"cannot be cut off either", func(f *nvmetest.Faults) {
			f.StuckReady, f.IgnoreReset, f.MasterFails = true, true, true
		}, blk.ErrDevice, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			config := quick
			config.ReadyTimeout = 15 * time.Millisecond
			config.Resets = 2
			f, c := open(t, one(), config)
			d, g := first(t, c), newGuest(f, 16*4096)
			f.Set(func(to *nvmetest.Faults) {
				to.IgnoreAborts = true
				x.faults(to)
			})
			hook(f, func(n int, _ nvmetest.Command) nvmetest.Action { return nvmetest.Action{Drop: n <= 16} })
			all := make(chan error, 16)
			for i := range 16 {
				r := rw(blk.OpRead, 0, 512, g.at(i*4096, 4096))
				r.Done = func(r *blk.Request) {
					// From the first on that ends with the controller, the memory is
					// somebody else's: the fake fails the test when it is still told,
					// or allowed, to reach it.
					if x.want != nil {
						f.Revoke(g.dma)
						f.MoveLate()
					}
					all <- r.Err
				}
				d.Submit(0, r)
			}
			for range 16 {
				wantErr(t, wait(t, all), x.want)
			}
			f.Revoke(g.dma)
			f.MoveLate()
			if n := f.Counts(); x.closed != f.Closed() || x.want != nil && n.Barred == 0 {
				t.Errorf("closed %v, %+v", f.Closed(), n)
			}
		})
	}
}

func TestVanishes(t *testing.T) {
	for _, x := range []struct {
		name string
		how  func(f *nvmetest.Controller)
		want error
	}{
		{"all ones", (*nvmetest.Controller).Vanish, blk.ErrDevice},
		{"unplugged", (*nvmetest.Controller).Unplug, blk.ErrRemoved},
	} {
		t.Run(x.name, func(t *testing.T) {
			noLeak(t)
			f, c := open(t, one(), quick)
			d, g := first(t, c), newGuest(f, 1<<20)
			events := make(chan blk.Event, 10)
			d.Watch(func(e blk.Event) { events <- e })
			hook(f, func(n int, _ nvmetest.Command) nvmetest.Action {
				return nvmetest.Action{Drop: n%3 == 0, Delay: time.Duration(n%3) * time.Millisecond}
			})
			var all []<-chan error
			for i := range 250 {
				all = append(all, start(d, 0, rw(blk.OpRead, uint64(i), 512, g.at(i*4096, 4096))))
			}
			x.how(f)
			for _, done := range all {
				if err := wait(t, done); err != nil {
					wantErr(t, err, x.want)
				}
			}
			wantErr(t, do(t, d, rw(blk.OpRead, 0, 512, g.at(0, 4096))), x.want)
			if errors.Is(x.want, blk.ErrRemoved) {
				if e := <-events; e != blk.EventRemoved {
					t.Errorf("event %v", e)
				}
			}
			if s := c.Stats(); s.Resets > 6 {
				t.Errorf("%d resets", s.Resets)
			}
			c.Close()
		})
	}
}

// TestUnplugAfterDeath tells the watchers, although the controller was given up.
func TestUnplugAfterDeath(t *testing.T) {
	f, c := open(t, one(), quick)
	d := first(t, c)
	events := make(chan blk.Event, 1)
	d.Watch(func(e blk.Event) { events <- e })
	f.Vanish()
	eventually(t, "death", func() bool { return c.Err() != nil })
	f.Unplug()
	if e := <-events; e != blk.EventRemoved {
		t.Errorf("event %v", e)
	}
	wantErr(t, do(t, d, &blk.Request{Op: blk.OpFlush}), blk.ErrRemoved)
}

func TestCancel(t *testing.T) {
	config := quick
	config.IOTimeout = time.Minute
	config.Depth = 4
	f, c := open(t, one(), config)
	d, g := first(t, c), newGuest(f, 4<<20)
	hook(f, func(int, nvmetest.Command) nvmetest.Action { return nvmetest.Action{Drop: true} })
	var requests []*blk.Request
	var all []<-chan error
	for i := range 3 {
		// The first takes two of the three slots, the second the third and waits
		// with the rest, the third waits.
		r := rw(blk.OpRead, 0, 512, g.at(i<<20, 1<<20))
		requests = append(requests, r)
		all = append(all, start(d, 0, r))
	}
	for i, done := range slices.Backward(all) {
		d.Cancel(requests[i])
		wantErr(t, wait(t, done), blk.ErrAborted)
	}
	d.Cancel(requests[0]) // nothing to cancel
	if s := c.Stats(); s.Aborts < 3 || s.Reads != 3 || s.Resets != 0 {
		t.Errorf("%+v", s)
	}
	hook(f, func(int, nvmetest.Command) nvmetest.Action { return nvmetest.Action{} })
	if err := do(t, d, rw(blk.OpRead, 0, 512, g.at(0, 1<<20))); err != nil {
		t.Error(err)
	}
}

func TestCancelOfADelayedRetry(t *testing.T) {
	config := quick
	config.IOTimeout = 10 * time.Second
	f, c := open(t, one(), config)
	d, g := first(t, c), newGuest(f, 4096)
	hook(f, func(int, nvmetest.Command) nvmetest.Action { return nvmetest.Action{Status: 0x082} })
	r := rw(blk.OpRead, 0, 512, g.at(0, 4096))
	done := start(d, 0, r)
	eventually(t, "retry", func() bool { return c.Stats().Retries == 1 })
	d.Cancel(r)
	wantErr(t, wait(t, done), blk.ErrAborted)
}

func TestClose(t *testing.T) {
	noLeak(t)
	f, c := open(t, one(), quick)
	d, g := first(t, c), newGuest(f, 1<<20)
	hook(f, func(int, nvmetest.Command) nvmetest.Action { return nvmetest.Action{Delay: 30 * time.Millisecond} })
	var all []<-chan error
	for i := range 200 {
		all = append(all, start(d, 0, rw(blk.OpWrite, uint64(i), 512, g.at(i*512, 512))))
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for _, done := range all {
		if err := wait(t, done); err != nil {
			t.Errorf("a request that was under way ends with %v", err)
		}
	}
	wantErr(t, do(t, d, &blk.Request{Op: blk.OpFlush}), blk.ErrRemoved)
	if n := f.Counts(); n.Shutdowns != 1 || n.MasterOffs == 0 || !f.Closed() {
		t.Errorf("%+v", n)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseOfAHungController(t *testing.T) {
	noLeak(t)
	config := quick
	config.IOTimeout = time.Minute
	config.ReadyTimeout = 100 * time.Millisecond
	f, c := open(t, one(), config)
	d, g := first(t, c), newGuest(f, 4096)
	f.Set(func(to *nvmetest.Faults) { to.NoShutdown, to.StuckReady = true, true })
	hook(f, func(int, nvmetest.Command) nvmetest.Action { return nvmetest.Action{Drop: true} })
	done := start(d, 0, rw(blk.OpRead, 0, 512, g.at(0, 4096)))
	begin := time.Now()
	c.Close()
	wantErr(t, wait(t, done), blk.ErrAborted)
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("Close took %v", d)
	}
	if f.Counts().MasterOffs == 0 {
		t.Error("the controller could still reach memory")
	}
}

func TestAdminTimeoutResets(t *testing.T) {
	config := quick
	config.AdminTimeout = 50 * time.Millisecond
	f, c := open(t, one(), config)
	drop := true
	f.Set(func(to *nvmetest.Faults) {
		to.Hook = func(cmd nvmetest.Command) nvmetest.Action {
			if cmd.Queue == 0 && cmd.Opcode == 0x06 && drop {
				drop = false
				return nvmetest.Action{Drop: true}
			}
			return nvmetest.Action{}
		}
	})
	f.Resize(1, 9000) // makes the driver ask
	eventually(t, "reset", func() bool { return c.Stats().Resets == 1 })
	if err := do(t, first(t, c), &blk.Request{Op: blk.OpFlush}); err != nil {
		t.Error(err)
	}
}

// TestCancelIsKeptByAReset ends a command that its owner wanted back with the reset
// that another one caused.
func TestCancelIsKeptByAReset(t *testing.T) {
	config := quick
	config.IOTimeout = 10 * time.Second
	f, c := open(t, one(), config)
	d, g := first(t, c), newGuest(f, 8192)
	f.Set(func(to *nvmetest.Faults) { to.IgnoreAborts = true })
	hook(f, func(n int, _ nvmetest.Command) nvmetest.Action { return nvmetest.Action{Drop: n <= 2} })
	r := rw(blk.OpRead, 0, 512, g.at(0, 4096))
	cancelled, other := start(d, 0, r), start(d, 0, rw(blk.OpRead, 0, 512, g.at(4096, 4096)))
	eventually(t, "commands", func() bool { return f.Hung() == 2 })
	d.Cancel(r)
	eventually(t, "abort", func() bool { return f.Counts().Aborts > 0 })
	f.Fail()
	wantErr(t, wait(t, cancelled), blk.ErrAborted)
	if err := wait(t, other); err != nil {
		t.Error(err)
	}
}

// TestCopiesAreOneWay lets the guest change its memory while it is written.
func TestCopiesAreOneWay(t *testing.T) {
	f, c := open(t, one(), nvme.Config{})
	g := newGuest(f, 4096)
	copy(g.data, noise(4096, 12))
	changed := noise(4096, 13)
	hook(f, func(int, nvmetest.Command) nvmetest.Action {
		copy(g.data, changed)
		return nvmetest.Action{}
	})
	if err := do(t, first(t, c), rw(blk.OpWrite, 0, 512, g.hidden(0, 4096))); err != nil {
		t.Fatal(err)
	}
	wantData(t, g.data, changed)
	wantData(t, f.Data(1)[:4096], noise(4096, 12))
}
