package irq

import "time"

// Clock is the time that devices see. Now is monotonic, in nanoseconds from an
// arbitrary start. Keeping it behind an interface lets unit tests move time by
// hand; the machine uses one clock for all devices.
type Clock interface {
	Now() int64
	// NewTimer returns a stopped timer that calls f, on a goroutine of its
	// own, each time it expires. f must not block.
	NewTimer(f func()) Timer
}

// Timer is one alarm of a Clock.
type Timer interface {
	// Arm sets the absolute time, in the Clock's nanoseconds, of the next
	// expiry, replacing an earlier one. A time in the past expires at once.
	Arm(at int64)
	// Disarm cancels the next expiry. A call of f already under way may still
	// finish afterwards.
	Disarm()
}

// SystemClock is the Clock of a running machine.
type SystemClock struct{ start time.Time }

// NewSystemClock returns a clock that starts at zero now.
func NewSystemClock() *SystemClock { return &SystemClock{start: time.Now()} }

// Now returns the nanoseconds since the clock was made.
func (c *SystemClock) Now() int64 { return int64(time.Since(c.start)) }

// NewTimer returns a stopped timer.
func (c *SystemClock) NewTimer(f func()) Timer {
	t := time.AfterFunc(time.Hour, f)
	t.Stop()
	return &systemTimer{clock: c, timer: t}
}

type systemTimer struct {
	clock *SystemClock
	timer *time.Timer
}

func (t *systemTimer) Arm(at int64) {
	t.timer.Reset(time.Duration(max(at-t.clock.Now(), 0)))
}

func (t *systemTimer) Disarm() { t.timer.Stop() }

// ManualClock is a Clock for tests: time stands still until Advance moves it,
// and timers then run on the caller's goroutine in the order of their expiry.
// It is not safe for concurrent use.
type ManualClock struct {
	now    int64
	timers []*manualTimer
}

// Now returns the time that Advance has reached.
func (c *ManualClock) Now() int64 { return c.now }

// NewTimer returns a stopped timer.
func (c *ManualClock) NewTimer(f func()) Timer {
	t := &manualTimer{f: f}
	c.timers = append(c.timers, t)
	return t
}

// Advance moves time forward by d nanoseconds and runs what expires on the way.
func (c *ManualClock) Advance(d int64) {
	end := c.now + d
	for {
		var next *manualTimer
		for _, t := range c.timers {
			if t.armed && t.at <= end && (next == nil || t.at < next.at) {
				next = t
			}
		}
		if next == nil {
			break
		}
		c.now = max(c.now, next.at)
		next.armed = false
		next.f()
	}
	c.now = end
}

type manualTimer struct {
	f     func()
	at    int64
	armed bool
}

func (t *manualTimer) Arm(at int64) { t.at, t.armed = at, true }
func (t *manualTimer) Disarm()      { t.armed = false }
