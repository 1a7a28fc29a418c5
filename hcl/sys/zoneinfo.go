package sys

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// FreePages returns how many pages of memory are free in all zones, those that each CPU
// keeps at hand included: /proc/meminfo leaves the latter out, and they can be many.
func FreePages() (uint64, error) {
	text, err := os.ReadFile("/proc/zoneinfo")
	if err != nil {
		return 0, fmt.Errorf("free memory: %w", err)
	}
	return freePages(string(text)), nil
}

// freePages adds up what the kernel's report of its zones says. It is called several
// times a second, where Sscanf would raise a panic for each line of another kind.
func freePages(zoneinfo string) uint64 {
	var sum uint64
	for line := range strings.Lines(zoneinfo) {
		// "  pages free     1234", "              count:    56"
		line = strings.TrimSpace(line)
		value, found := strings.CutPrefix(line, "pages free")
		if !found {
			if value, found = strings.CutPrefix(line, "count:"); !found {
				continue
			}
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 52); err == nil {
			sum += n
		}
	}
	return sum
}
