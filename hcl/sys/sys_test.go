package sys

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// onThread runs f on a locked thread with KickSignal blocked, as a VP does.
func onThread(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := BlockKick()
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestKickEndsAnUnboundedWait(t *testing.T) {
	tid := make(chan int, 1)
	go func() { Kick(<-tid) }()
	onThread(t, func() {
		tid <- unix.Gettid()
		if !WaitKick(-1) {
			t.Error("WaitKick returned without a kick")
		}
	})
}

func TestKickBeforeWaitIsNotLost(t *testing.T) {
	onThread(t, func() {
		Kick(unix.Gettid())
		if !WaitKick(time.Hour) {
			t.Error("a kick sent before the wait was lost")
		}
		if WaitKick(0) {
			t.Error("the kick was delivered twice")
		}
	})
}

func TestThreadTimerKicksItsThread(t *testing.T) {
	onThread(t, func() {
		timer, err := NewThreadTimer()
		if err != nil {
			t.Error(err)
			return
		}
		defer timer.Close()
		timer.Arm(MonotonicNow() + int64(time.Millisecond))
		if !WaitKick(time.Minute) {
			t.Error("an armed timer did not kick")
		}
		timer.Arm(MonotonicNow() + int64(time.Hour))
		timer.Arm(0)
		if WaitKick(5 * time.Millisecond) {
			t.Error("a disarmed timer kicked")
		}
	})
}

func TestArmDoesNotAllocate(t *testing.T) {
	onThread(t, func() {
		timer, err := NewThreadTimer()
		if err != nil {
			t.Error(err)
			return
		}
		defer timer.Close()
		if n := testing.AllocsPerRun(100, func() { timer.Arm(MonotonicNow() + int64(time.Hour)) }); n != 0 {
			t.Errorf("Arm allocates %v times", n)
		}
		if n := testing.AllocsPerRun(100, DrainKick); n != 0 {
			t.Errorf("DrainKick allocates %v times", n)
		}
	})
}

func TestKickMaskLeavesTwoSignalsOpen(t *testing.T) {
	var open []unix.Signal
	for i, b := range KickMask() {
		for bit := range 8 {
			if b>>bit&1 == 0 {
				open = append(open, unix.Signal(i*8+bit+1))
			}
		}
	}
	if want := []unix.Signal{unix.SIGURG, KickSignal}; !slices.Equal(open, want) {
		t.Errorf("signals %v are open, want %v", open, want)
	}
}

// TestCollectorReachesWaitingThreads collects garbage while a thread waits without
// the scheduler's knowledge: the preemption must end the wait.
func TestCollectorReachesWaitingThreads(t *testing.T) {
	const waits = 50
	waiting := make(chan struct{})
	go func() {
		<-waiting
		for range 5 {
			runtime.GC()
		}
	}()
	onThread(t, func() {
		close(waiting)
		for range waits {
			if WaitKick(nap - 1) {
				t.Error("a preemption counts as a kick")
			}
		}
	})
}

func TestRDTSCAdvances(t *testing.T) {
	if a, b := RDTSC(), RDTSC(); b < a {
		t.Errorf("time stamp went back from %d to %d", a, b)
	}
}

func TestFrequencyFromCPUInfo(t *testing.T) {
	for _, c := range []struct {
		text string
		want float64
	}{
		{"processor\t: 0\ncpu MHz\t\t: 2595.124\nflags\t: tsc\n", 2595.124},
		{"processor\t: 0\n", 0},
		{"cpu MHz : fast\n", 0},
		{"", 0},
	} {
		if got := parseMHz(c.text); got != c.want {
			t.Errorf("%q: %v, want %v", c.text, got, c.want)
		}
	}
}

func TestMonotonicNowIsNeverBehindTheKernel(t *testing.T) {
	for range 1000 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			t.Fatal(err)
		}
		if now := MonotonicNow(); now < ts.Nano() {
			t.Fatalf("MonotonicNow is %d ns behind CLOCK_MONOTONIC", ts.Nano()-now)
		}
	}
}
