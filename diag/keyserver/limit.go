package keyserver

import "time"

// bucket bounds how often something happens: rate times a second, and as much at once. Its
// one user is the goroutine that accepts.
type bucket struct {
	rate, tokens float64
	last         time.Time
}

func newBucket(rate float64) *bucket {
	return &bucket{rate: rate, tokens: max(rate, 1), last: time.Now()}
}

// take tells whether it may happen now.
func (b *bucket) take(now time.Time) bool {
	b.tokens = min(max(b.rate, 1), b.tokens+b.rate*max(now.Sub(b.last).Seconds(), 0))
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
