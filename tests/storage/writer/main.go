// Command writer writes the numbered blocks of package durable to a disk of the
// guest in which it runs, and prints which are durable. Even jobs write each block
// with O_DSYNC, which becomes FUA where the disk has it; odd ones write a few
// and flush. It goes on until it is ended, or for -count blocks a job.
package main

import (
	"flag"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"keel/tests/storage/durable"
)

// batch is how many blocks an odd job writes between flushes.
const batch = 8

func main() {
	disk := flag.String("disk", "", "block device or file")
	var l durable.Layout
	flag.IntVar(&l.Jobs, "jobs", 4, "writers")
	flag.IntVar(&l.Slots, "slots", 1024, "blocks of each writer, a power of two")
	count := flag.Uint64("count", 0, "blocks that each writes, 0 for no end")
	flag.Parse()
	if err := run(*disk, l, *count); err != nil {
		fmt.Println("KEEL-GUEST result FAIL durable", err)
		os.Exit(1)
	}
}

// run writes with all jobs and returns the first error.
func run(disk string, l durable.Layout, count uint64) error {
	if err := l.Check(); err != nil {
		return err
	}
	fmt.Println(durable.MarkStart)
	var wg sync.WaitGroup
	failed := make(chan error, l.Jobs)
	for job := range l.Jobs {
		wg.Go(func() {
			if err := write(disk, l, job, count); err != nil {
				failed <- fmt.Errorf("job %d: %w", job, err)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case err := <-failed:
		return err
	case <-done:
	}
	select { // both may have been ready
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// write is one job.
func write(disk string, l durable.Layout, job int, count uint64) error {
	flags, every := unix.O_WRONLY|unix.O_DIRECT, uint64(batch)
	if job%2 == 0 {
		flags, every = flags|unix.O_DSYNC, 1
	}
	f, err := os.OpenFile(disk, flags, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// O_DIRECT wants aligned memory; pages are.
	buf, err := unix.Mmap(-1, 0, durable.BlockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for seq := uint64(1); count == 0 || seq <= count; seq++ {
		durable.Fill(buf, job, seq)
		if _, err := f.WriteAt(buf, l.Offset(job, seq)); err != nil {
			return err
		}
		if seq%every != 0 {
			continue
		}
		if every > 1 {
			if err := unix.Fdatasync(int(f.Fd())); err != nil {
				return err
			}
		}
		// One write, so that the lines of two jobs do not mix.
		if _, err := os.Stdout.WriteString(durable.AckLine(job, seq)); err != nil {
			return err
		}
	}
	return nil
}
