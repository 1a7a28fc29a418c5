// Package report is what the benchmarks share when they write their results: where
// figures come from, how they are summed up, and how they are drawn.
package report

import (
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Machine describes where figures come from.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	RAM    uint64 `json:"ram_bytes"`
	Kernel string `json:"kernel"`
	Debian string `json:"debian"`
}

// ThisMachine describes the machine on which it runs.
func ThisMachine() Machine {
	text := func(path string) string {
		b, _ := os.ReadFile(path) // what a host does not say stays empty
		return strings.TrimSpace(string(b))
	}
	ram, _ := strconv.ParseUint(strings.TrimSuffix(field(text("/proc/meminfo"), "MemTotal"), " kB"), 10, 64)
	return Machine{
		CPU: field(text("/proc/cpuinfo"), "model name"), Cores: runtime.NumCPU(), RAM: ram << 10,
		Kernel: text("/proc/sys/kernel/osrelease"), Debian: text("/etc/debian_version"),
	}
}

// field returns the first value of a name in a text of lines "name : value".
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
