package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// onOneProcessor calls a function while this process, and what it starts meanwhile, runs on
// one processor: where else two processes run that wake each other is luck, and worth more
// than all that is compared here.
func onOneProcessor(do func() error) (err error) {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if err := place(&one); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place(&all)) }()
	return do()
}

// place lets all threads of this process run on some processors: threads and processes
// that they make do so, too.
func place(cpus *unix.CPUSet) error {
	for placed := map[int]bool{}; ; {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		fresh := 0 // threads that were made meanwhile
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || placed[tid] {
				continue
			}
			placed[tid] = true
			fresh++
			if err := unix.SchedSetaffinity(tid, cpus); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("sched_setaffinity of thread %d: %w", tid, err)
			}
		}
		if fresh == 0 {
			return nil
		}
	}
}
