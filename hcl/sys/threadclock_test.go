package sys

import (
	"runtime"
	"testing"
	"time"
)

// TestThreadClock: a thread that works has CPU time, one that sleeps has none to speak
// of, and any other may look.
func TestThreadClock(t *testing.T) {
	if ThreadClock(0).Read() != 0 {
		t.Error("no thread runs")
	}
	clocks, done := make(chan ThreadClock), make(chan struct{})
	for _, busy := range []bool{true, false} {
		go func() {
			runtime.LockOSThread()
			clock := NewThreadClock()
			for start := clock.Read(); busy; busy = clock.Read()-start < 20*time.Millisecond {
				runtime.Gosched() // it stays on its thread
			}
			clocks <- clock
			<-done
		}()
	}
	a, b := <-clocks, <-clocks
	if least, most := min(a.Read(), b.Read()), max(a.Read(), b.Read()); most < 20*time.Millisecond || least >= most {
		t.Errorf("%v and %v of CPU time", least, most)
	}
	close(done)
}
