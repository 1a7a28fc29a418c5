package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// vpThread is how QEMU's threads that run VPs are called (-name debug-threads=on).
const vpThread = "CPU "

// spread waits until QEMU has made the threads of its VPs, which stay off the first
// CPU as Keel's do, and lets all others run anywhere, as Keel's do. It gives up when
// QEMU ends.
func spread(pid, vps int) error {
	for {
		dir := fmt.Sprintf("/proc/%d/task", pid)
		tasks, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("QEMU's threads: %w", err)
		}
		var others []int
		seen := 0
		for _, t := range tasks {
			name, err := os.ReadFile(filepath.Join(dir, t.Name(), "comm"))
			if err != nil {
				continue // it has ended
			}
			if strings.HasPrefix(string(name), vpThread) {
				seen++
			} else if tid, err := strconv.Atoi(t.Name()); err == nil {
				others = append(others, tid)
			}
		}
		if seen >= vps {
			return release(others)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// release lets threads run on every CPU.
func release(tids []int) error {
	var all unix.CPUSet
	for cpu := range runtime.NumCPU() {
		all.Set(cpu)
	}
	for _, tid := range tids {
		if err := unix.SchedSetaffinity(tid, &all); err != nil && err != unix.ESRCH {
			return fmt.Errorf("sched_setaffinity of QEMU's thread %d: %w", tid, err)
		}
	}
	return nil
}
