package pvinit

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"keel/hcl/sys"
)

// sincePowerOn returns the milliseconds since power-on: the time stamp counter is
// zero at reset (APM vol. 2, 13.2.4). Where its frequency is unknown, it returns
// what the kernel counted, which leaves out the time before the kernel.
func sincePowerOn() float64 {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		if mhz, ok := tscMHz(string(info)); ok {
			return float64(sys.RDTSC()) / (mhz * 1000)
		}
	}
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // Linux has had it since 2.6.39
	return float64(ts.Nano()) / 1e6
}

// tscMHz returns the frequency in a text in the format of /proc/cpuinfo. Without a
// frequency driver, which the VTL2 kernel does not have, it is that of the TSC.
func tscMHz(cpuinfo string) (float64, bool) {
	for line := range strings.Lines(cpuinfo) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) != "cpu MHz" {
			continue
		}
		mhz, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		return mhz, err == nil && mhz > 0
	}
	return 0, false
}
