package meter_test

import (
	"sync"
	"testing"
	"time"

	"keel/translate/meter"
)

func TestHistogramBuckets(t *testing.T) {
	for _, x := range []struct {
		took  time.Duration
		bound uint64 // of the bucket, 0 for the last
	}{
		{-time.Second, 1},
		{0, 1},
		{1999, 1},
		{2 * time.Microsecond, 2},
		{3 * time.Microsecond, 4},
		{4 * time.Microsecond, 4},
		{5 * time.Microsecond, 8},
		{time.Millisecond, 1024},
		{4194304 * time.Microsecond, 4194304},
		{4194305 * time.Microsecond, 0},
		{time.Hour, 0},
	} {
		var h meter.Histogram
		h.Add(x.took)
		var c meter.Counts
		h.AddTo(&c)
		v := c.Inspect()
		if len(v.Counts) != len(v.Bounds)+1 {
			t.Fatalf("%d counts, %d bounds", len(v.Counts), len(v.Bounds))
		}
		for i, n := range v.Counts {
			want := uint64(0)
			if last := i == len(v.Bounds); last && x.bound == 0 || !last && v.Bounds[i] == x.bound {
				want = 1
			}
			if n != want {
				t.Errorf("%v: bucket %d has %d", x.took, i, n)
			}
		}
	}
}

func TestGauge(t *testing.T) {
	var g meter.Gauge
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				g.Up()
				g.Down()
			}
		})
	}
	wg.Wait()
	if g.Now() != 0 || g.Highest() < 1 || g.Highest() > 8 {
		t.Errorf("now %d, highest %d", g.Now(), g.Highest())
	}
}

func TestMeasuringAllocatesNothing(t *testing.T) {
	var g meter.Gauge
	var h meter.Histogram
	if n := testing.AllocsPerRun(100, func() {
		since := meter.Now()
		g.Up()
		g.Down()
		h.Add(meter.Now() - since)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkCommand is all that measuring a command costs.
func BenchmarkCommand(b *testing.B) {
	var g meter.Gauge
	var h meter.Histogram
	for b.Loop() {
		since := meter.Now()
		g.Up()
		g.Down()
		h.Add(meter.Now() - since)
	}
}
