package guest

import (
	"fmt"
	"math/bits"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	timerStep  = time.Millisecond
	timerSpan  = 8 * time.Second
	maxStalled = 5 * time.Second // longer than any busy machine makes a thread wait
)

// histogram counts latenesses in buckets of powers of two microseconds.
type histogram struct {
	buckets [32]int
	steps   int
	worst   time.Duration
}

// add counts one lateness. Early wake-ups count as bucket zero.
func (h *histogram) add(late time.Duration) {
	h.buckets[min(bits.Len64(uint64(max(late.Microseconds(), 0))), len(h.buckets)-1)]++
	h.steps++
	h.worst = max(h.worst, late)
}

// String lists the used buckets as upper bound in microseconds and count.
func (h *histogram) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "steps=%d worst_us=%d late_us", h.steps, h.worst.Microseconds())
	for i, n := range h.buckets {
		if n > 0 {
			fmt.Fprintf(&s, " <%d:%d", 1<<i, n)
		}
	}
	return s.String()
}

// checkHRTimer sleeps in steps of a millisecond on every CPU and prints how late
// each CPU woke. It asserts no time budget: it fails when a timer fires early or
// seems lost.
func checkHRTimer(m *machine) (string, error) {
	histograms := make([]histogram, len(m.cpus))
	errs := make([]error, len(m.cpus))
	var wg sync.WaitGroup
	for i, cpu := range m.cpus {
		wg.Go(func() {
			errs[i] = onCPU(cpu, func() error { return sleepSteps(&histograms[i]) })
		})
	}
	wg.Wait()
	steps := 0
	for i, cpu := range m.cpus {
		say(fmt.Sprintf("%shrtimer cpu=%d %s", markNote, cpu, &histograms[i]))
		if errs[i] != nil {
			return "", fmt.Errorf("CPU %d: %w", cpu, errs[i])
		}
		steps += histograms[i].steps
	}
	return fmt.Sprintf("steps=%d", steps), nil
}

// sleepSteps fills the histogram of one CPU.
func sleepSteps(h *histogram) error {
	begin := monotonic()
	for next := begin + timerStep; next < begin+timerSpan; {
		ts := unix.NsecToTimespec(int64(next))
		err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("clock_nanosleep: %w", err)
		}
		now := monotonic()
		if now < next {
			return fmt.Errorf("woke %v early", next-now)
		}
		h.add(now - next)
		if now-next > maxStalled {
			return fmt.Errorf("woke %v late", now-next)
		}
		// A step that the thread slept through is no later wake-up.
		for next += timerStep; next <= now; {
			next += timerStep
		}
	}
	return nil
}
