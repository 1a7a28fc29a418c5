package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// memoryBound is what a worker may have resident, in bytes.
const memoryBound = 14 << 20

// memory is what a process has resident, in bytes.
type memory struct {
	RSS  uint64 `json:"rss_bytes"`
	Peak uint64 `json:"peak_bytes"`
}

// errMemory says that a process's memory cannot be read.
var errMemory = errors.New("memory of a process")

// memoryOf reads the memory of a process.
func memoryOf(pid int) (memory, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, fmt.Errorf("%w: %w", errMemory, err)
	}
	return parseMemory(string(b))
}

// parseMemory reads the lines VmRSS and VmHWM of a process's status
// (proc_pid_status(5)).
func parseMemory(status string) (memory, error) {
	var m memory
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		to := map[string]*uint64{"VmRSS": &m.RSS, "VmHWM": &m.Peak}[name]
		if to == nil {
			continue
		}
		kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 40)
		if err != nil {
			return memory{}, fmt.Errorf("%w: %q: %w", errMemory, line, err)
		}
		*to = kib << 10
	}
	if m.RSS == 0 || m.Peak == 0 {
		return memory{}, fmt.Errorf("%w: it has none: the process has ended", errMemory)
	}
	return m, nil
}
