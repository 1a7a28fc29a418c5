package report

import (
	"math"
	"slices"
	"testing"
)

func TestMedian(t *testing.T) {
	tests := []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
	}
	for _, tt := range tests {
		given := slices.Clone(tt.values)
		if got := Median(tt.values); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.values, got, tt.want)
		}
		if !slices.Equal(given, tt.values) {
			t.Errorf("median changed %v into %v", given, tt.values)
		}
	}
}

func TestField(t *testing.T) {
	const text = "processor\t: 0\nmodel name\t: AMD EPYC: 7742\nmodel name\t: other\n"
	if got := field(text, "model name"); got != "AMD EPYC: 7742" {
		t.Errorf("%q", got)
	}
	if got := field(text, "model"); got != "" {
		t.Errorf("%q for a name that is not there", got)
	}
}

func TestNiceStep(t *testing.T) {
	for v, want := range map[float64]float64{0.3: 0.5, 1: 1, 1.2: 2, 4100: 5000, 7000: 10000} {
		if got := NiceStep(v); math.Abs(got-want) > want/1e9 {
			t.Errorf("step for %v is %v, want %v", v, got, want)
		}
	}
}
