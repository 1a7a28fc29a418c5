package sys

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// UsableCPUs returns how many CPUs may run the calling thread (sched_getaffinity(2)).
func UsableCPUs() (int, error) {
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err != nil {
		return 0, fmt.Errorf("sched_getaffinity: %w", err)
	}
	return cpus.Count(), nil
}

// Yield lets another thread have the CPU, if one waits for it (sched_yield(2)).
func Yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
