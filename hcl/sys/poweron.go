package sys

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// SincePowerOn returns the milliseconds since the VM was powered on: its time
// stamp counter starts at zero at reset (AMD64 APM vol. 2 §13.2.4). Where the
// counter's frequency is unknown it counts from the start of the kernel.
func SincePowerOn() float64 {
	if mhz := tscMHz(); mhz > 0 {
		return float64(RDTSC()) / (mhz * 1000)
	}
	return float64(MonotonicNow()) / float64(time.Millisecond)
}

// tscMHz reads the frequency once. Without a frequency driver, which the VTL2
// kernel does not have, "cpu MHz" is that of the time stamp counter.
var tscMHz = sync.OnceValue(func() float64 {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return 0
	}
	return parseMHz(string(text))
})

func parseMHz(cpuinfo string) float64 {
	for line := range strings.Lines(cpuinfo) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) != "cpu MHz" {
			continue
		}
		if mhz, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
			return mhz
		}
	}
	return 0
}
