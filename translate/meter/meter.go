// Package meter measures what disks do: how long commands take and how many are under
// way. Measuring takes no lock and allocates nothing.
package meter

import (
	"math/bits"
	"sync/atomic"
	"time"

	"keel/diag/inspect"
)

var start = time.Now()

// Now is the time since the process started. It is what both ends of a command read.
func Now() time.Duration { return time.Since(start) }

// Wall returns the time of day of a time that Now returned.
func Wall(t time.Duration) time.Time { return start.Round(0).Add(t) }

// Gauge is how many commands are under way, and the most that ever were.
type Gauge struct{ now, highest atomic.Int32 }

// Up counts a command that starts.
func (g *Gauge) Up() {
	n := g.now.Add(1)
	for h := g.highest.Load(); n > h && !g.highest.CompareAndSwap(h, n); {
		h = g.highest.Load()
	}
}

// Down counts a command that ends.
func (g *Gauge) Down() { g.now.Add(-1) }

// Now returns how many commands are under way.
func (g *Gauge) Now() int { return int(g.now.Load()) }

// Highest returns how many there were at most.
func (g *Gauge) Highest() int { return int(g.highest.Load()) }

// Buckets is how many buckets a Histogram has. The first holds what took 1 µs or less,
// each further one twice as much, the last everything from 4.2 s on.
const Buckets = 24

// Histogram is how often commands took how long. The zero value is empty.
type Histogram struct{ counts [Buckets]atomic.Uint64 }

// Add counts a command. Parts of a microsecond do not count.
func (h *Histogram) Add(took time.Duration) {
	us, i := uint64(max(took, 0)/time.Microsecond), 0
	if us > 1 {
		i = min(bits.Len64(us-1), Buckets-1)
	}
	h.counts[i].Add(1)
}

// Counts are those of the buckets.
type Counts [Buckets]uint64

// AddTo adds the histogram to a sum.
func (h *Histogram) AddTo(c *Counts) {
	for i := range h.counts {
		c[i] += h.counts[i].Load()
	}
}

// Inspect returns the counts as the state tree has them, in microseconds.
func (c *Counts) Inspect() inspect.Histogram {
	v := inspect.Histogram{Bounds: make([]uint64, Buckets-1), Counts: append([]uint64(nil), c[:]...)}
	for i := range v.Bounds {
		v.Bounds[i] = 1 << i
	}
	return v
}
