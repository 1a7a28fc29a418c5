package sys

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ThreadTimer sends KickSignal to one thread when it expires (timer_create(2)
// with SIGEV_THREAD_ID): a VP's own deadline reaches it without waking any
// other thread.
type ThreadTimer struct {
	id int32
}

// sigevThreadID asks for the signal to be sent to one thread (linux/signal.h).
const sigevThreadID = 4

// sigevent mirrors struct sigevent of the kernel, 64 bytes.
type sigevent struct {
	value  uint64
	signo  int32
	notify int32
	tid    int32
	_      [44]byte
}

// NewThreadTimer makes a disarmed timer for the calling thread.
// Preconditions: the goroutine is locked to its thread.
func NewThreadTimer() (*ThreadTimer, error) {
	t := &ThreadTimer{}
	ev := sigevent{signo: int32(KickSignal), notify: sigevThreadID, tid: int32(unix.Gettid())}
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC,
		uintptr(unsafe.Pointer(&ev)), uintptr(unsafe.Pointer(&t.id)))
	if errno != 0 {
		return nil, fmt.Errorf("timer_create: %w", errno)
	}
	return t, nil
}

// itimerspec mirrors struct itimerspec.
type itimerspec struct {
	interval, value unix.Timespec
}

// timerAbsolute is TIMER_ABSTIME.
const timerAbsolute = 1

// Arm sets the next expiry, in nanoseconds of CLOCK_MONOTONIC; 0 disarms.
func (t *ThreadTimer) Arm(at int64) {
	spec := itimerspec{value: unix.NsecToTimespec(max(at, 0))}
	// The only errors are an invalid timer or time, which NewThreadTimer and
	// max rule out.
	_, _, _ = unix.RawSyscall6(unix.SYS_TIMER_SETTIME, uintptr(t.id), timerAbsolute,
		uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
}

// Close deletes the timer.
func (t *ThreadTimer) Close() {
	_, _, _ = unix.RawSyscall(unix.SYS_TIMER_DELETE, uintptr(t.id), 0, 0)
}

// moment is one instant on two clocks.
type moment struct {
	goTime time.Time
	nanos  int64 // CLOCK_MONOTONIC
}

// monotonicStart ties Go's clock, which reads time without entering the
// kernel, to CLOCK_MONOTONIC. The thread may be preempted between two looks, so
// the closest of several pairs counts. Go's clock is read first: MonotonicNow
// may then be ahead of the kernel by a hair, but never behind, and a timer
// never seems to expire too early.
var monotonicStart = func() (s moment) {
	const looks = 16
	best := time.Duration(1<<63 - 1)
	for range looks {
		var ts unix.Timespec
		before := time.Now()
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail: Linux always has it
		if d := time.Since(before); d < best {
			best, s.goTime, s.nanos = d, before, ts.Nano()
		}
	}
	return s
}()

// MonotonicNow returns CLOCK_MONOTONIC in nanoseconds, the time base of Arm.
func MonotonicNow() int64 {
	return monotonicStart.nanos + int64(time.Since(monotonicStart.goTime))
}
