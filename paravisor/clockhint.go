package paravisor

import (
	"fmt"
	"slices"
	"strings"
)

// clockParams are the kernel parameters with which a user chooses a clock.
var clockParams = []string{"tsc", "tsc_early_khz", "notsc", "clocksource"}

// clockHint returns kernel parameters that say what Linux has no register for on
// AMD's processors: the frequency of the time stamp counter, and that it can be
// trusted. Without them Linux measures it with the PIT and the PM timer, gives up
// where an exit takes longer than some 20 microseconds, and from then on leaves
// the guest each time it looks at the clock (arch/x86/kernel/tsc.c, tsc_read_refs).
// A user who has chosen a clock is left alone.
func clockHint(commandLine string, tscHz uint64) string {
	khz := tscHz / 1000
	if khz == 0 || slices.ContainsFunc(strings.Fields(commandLine), func(word string) bool {
		name, _, _ := strings.Cut(word, "=")
		return slices.Contains(clockParams, name)
	}) {
		return ""
	}
	return fmt.Sprintf("tsc_early_khz=%d tsc=reliable", khz)
}
