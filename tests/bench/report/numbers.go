package report

import (
	"fmt"
	"slices"
)

// Median returns the middle of the values, 0 of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Clone(values)
	slices.Sort(v)
	mid := len(v) / 2
	if len(v)%2 == 0 {
		return (v[mid-1] + v[mid]) / 2
	}
	return v[mid]
}

// Ratio formats a value over a reference, a dash where one of them is missing.
func Ratio(value, reference float64) string {
	if value == 0 || reference == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", value/reference)
}

// Number formats a value with three digits that count.
func Number(v float64) string {
	switch {
	case v == 0:
		return "-"
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
