package sys

import (
	"time"

	"golang.org/x/sys/unix"
)

// ThreadClock is the CPU time of a thread of this process, which any thread may read. The
// zero value is that of none.
type ThreadClock int32

// Bits of the identifier of a thread's clock (include/linux/posix-timers.h): above them is
// the complement of the thread's.
const (
	clockSched     = 2
	clockPerThread = 4
	clockShift     = 3
)

// NewThreadClock returns the clock of the calling thread.
func NewThreadClock() ThreadClock {
	return ThreadClock(^unix.Gettid()<<clockShift | clockPerThread | clockSched)
}

// Read returns how long the thread ran so far, in the guest too.
func (c ThreadClock) Read() time.Duration {
	var t unix.Timespec
	if c == 0 || unix.ClockGettime(int32(c), &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
