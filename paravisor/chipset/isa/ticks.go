package isa

import (
	"math"
	"math/bits"
)

const nanosPerSecond = 1_000_000_000

// Hz is the frequency of a counter that runs since the clock's zero. The
// conversions are exact in both directions: a count never drifts from the
// clock, however long the machine runs.
type Hz uint32

// Ticks returns the whole periods that have passed at time now (nanoseconds,
// irq.Clock). A negative time counts as zero.
func (f Hz) Ticks(now int64) uint64 {
	hi, lo := bits.Mul64(uint64(max(now, 0)), uint64(f))
	// now < 2^63 and f < 2^32, but hi must stay below the divisor: a chip's
	// frequency below 1 GHz guarantees it.
	if hi >= nanosPerSecond {
		return math.MaxUint64
	}
	q, _ := bits.Div64(hi, lo, nanosPerSecond)
	return q
}

// Nanos returns the first time (nanoseconds, irq.Clock) at which Ticks reaches
// the given count, or the largest time when that lies beyond the clock's end.
func (f Hz) Nanos(ticks uint64) int64 {
	hi, lo := bits.Mul64(ticks, nanosPerSecond)
	if hi >= uint64(f) {
		return math.MaxInt64
	}
	q, r := bits.Div64(hi, lo, uint64(f))
	if r != 0 {
		q++
	}
	return int64(min(q, math.MaxInt64))
}
