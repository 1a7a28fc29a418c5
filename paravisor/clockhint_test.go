package paravisor

import "testing"

func TestClockHint(t *testing.T) {
	const hint = "tsc_early_khz=2445406 tsc=reliable"
	tests := []struct {
		line string
		hz   uint64
		want string
	}{
		{"", 2445406789, hint},
		{"console=ttyS0 quiet", 2445406789, hint},
		{"console=ttyS0", 0, ""}, // nobody knows it
		{"console=ttyS0", 999, ""},
		{"notsc console=ttyS0", 2445406789, ""},
		{"tsc=unstable", 2445406789, ""},
		{"tsc_early_khz=1", 2445406789, ""},
		{"quiet clocksource=acpi_pm", 2445406789, ""},
		{"xtsc=1 notscx", 2445406789, hint},
	}
	for _, tt := range tests {
		if got := clockHint(tt.line, tt.hz); got != tt.want {
			t.Errorf("%q at %d Hz: %q, want %q", tt.line, tt.hz, got, tt.want)
		}
	}
}
