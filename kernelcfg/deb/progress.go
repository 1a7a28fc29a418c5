package deb

import (
	"fmt"
	"io"
	"time"
)

// Meter counts bytes that are written to it and reports them, at most every three
// seconds, as one line each: terminals, logs and CI all show lines well.
type Meter struct {
	out     io.Writer
	what    string
	done    int64
	total   int64
	started time.Time
	shown   time.Time
}

// NewMeter starts a report on what; total is the expected byte count, of which
// done were there before.
func NewMeter(out io.Writer, what string, done, total int64) *Meter {
	now := time.Now()
	fmt.Fprintf(out, "keel: %s (%s)\n", what, mib(total))
	return &Meter{out: out, what: what, done: done, total: total, started: now, shown: now}
}

// Write counts p and never fails.
func (m *Meter) Write(p []byte) (int, error) {
	m.done += int64(len(p))
	if now := time.Now(); now.Sub(m.shown) >= 3*time.Second {
		m.shown = now
		// A wrong or missing total must not show more than all of it.
		percent := int64(100)
		if m.total > 0 {
			percent = min(100, m.done*100/m.total)
		}
		fmt.Fprintf(m.out, "keel: %s: %s of %s, %d %%\n", m.what, mib(m.done), mib(m.total), percent)
	}
	return len(p), nil
}

// Done prints the closing line with the time taken.
func (m *Meter) Done() {
	fmt.Fprintf(m.out, "keel: %s: done, %s in %s\n", m.what, mib(m.done), time.Since(m.started).Round(100*time.Millisecond))
}

// mib formats a byte count in MiB with one decimal.
func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
