package vtl

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"keel/hcl"
	"keel/hcl/sys"
)

// busyPort is a guest that writes to a port all the time. A kick ends the run behind the
// instruction, as the contract of hcl wants it.
func busyPort(vp *fakeVP, _ int) (hcl.Exit, error) {
	if sys.WaitKick(0) {
		vp.finished = true
		return hcl.Exit{Kind: hcl.ExitKick}, nil
	}
	vp.finished = false
	return pio(0x20, true, 1, []byte{1}), nil
}

// start runs the guest and returns what waits for its end. From then on it can be stopped.
func start(tb testing.TB, g *Guest) (wait func() End) {
	tb.Helper()
	begun, done := make(chan struct{}), make(chan End, 1)
	go func() {
		end, err := g.Run(func(hcl.VP) error { close(begun); return nil })
		if err != nil {
			tb.Error(err)
		}
		done <- end
	}()
	<-begun
	return func() End {
		tb.Helper()
		select {
		case end := <-done:
			return end
		case <-time.After(time.Minute):
			tb.Fatal("the guest did not end")
			return End{}
		}
	}
}

// newBusy makes a guest of a VP that never rests, and one that waits for its startup IPI.
func newBusy(t *testing.T) (*Guest, *fakePartition) {
	t.Helper()
	g, p, ports, _ := newFake(t, busyPort, func(vp *fakeVP, _ int) (hcl.Exit, error) { return vp.untilKicked() })
	mapPorts(t, g, ports, &scratch{})
	return g, p
}

func TestPauseStopsBetweenInstructions(t *testing.T) {
	g, p := newBusy(t)
	wait := start(t, g)
	for range 200 {
		if err := g.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		turns := func() (n int) {
			if err := g.OnVP(t.Context(), 0, func(vp hcl.VP) error {
				if vp != p.vps[0] {
					t.Error("another VP")
				}
				if n = p.vps[0].turn; n > 0 && !p.vps[0].finished {
					t.Error("the VP stands within an instruction")
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			return n
		}
		before := turns()
		g.NMI() // wakes nobody
		g.Kick(0)
		if after := turns(); after != before || !g.Paused() {
			t.Fatalf("a paused VP ran %d times", after-before)
		}
		g.Resume()
		for n := g.Exits()["pio"]; g.Exits()["pio"] == n; {
			time.Sleep(time.Microsecond)
		}
	}
	if g.Paused() {
		t.Error("paused after Resume")
	}
	g.Stop(End{Kind: EndPowerOff})
	wait()
}

func TestOnVPWantsAPause(t *testing.T) {
	g, _ := newBusy(t)
	wait := start(t, g)
	if err := g.OnVP(t.Context(), 0, func(hcl.VP) error { return nil }); !errors.Is(err, ErrRunning) {
		t.Errorf("%v, want ErrRunning", err)
	}
	if err := g.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	mine := errors.New("mine")
	if err := g.OnVP(t.Context(), 1, func(hcl.VP) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("%v, want that of the function", err)
	}
	g.Stop(End{Kind: EndPowerOff})
	wait()
	// The hold outlives the run, but nobody stands.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := g.OnVP(ctx, 0, func(hcl.VP) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v without a run", err)
	}
}

func TestPausedGuestEndsAndStartsPaused(t *testing.T) {
	g, p := newBusy(t)
	wait := start(t, g)
	for range 100 {
		if err := g.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.Stop(End{Kind: EndReset})
		if end := wait(); end.Kind != EndReset {
			t.Fatalf("%+v", end)
		}
		p.vps[0].turn = 0
		wait = start(t, g)
		if err := g.OnVPs(t.Context(), func(i int, _ hcl.VP) error {
			if i == 0 && p.vps[0].turn != 0 {
				t.Error("the guest ran after its reset")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		g.Resume()
	}
	g.Stop(End{Kind: EndPowerOff})
	wait()
}

// TestPauseRaces lets everything meet that can.
func TestPauseRaces(t *testing.T) {
	g, _ := newBusy(t)
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 3 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if err := g.Pause(ctx); err != nil && !errors.Is(err, ErrRunning) && ctx.Err() == nil {
					t.Error(err)
				}
				g.Resume()
			}
		})
	}
	for range 300 {
		wait := start(t, g)
		time.Sleep(50 * time.Microsecond)
		g.Stop(End{Kind: EndReset})
		wait()
	}
	cancel()
	clients.Wait()
}
