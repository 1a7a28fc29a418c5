// Package coredump writes an ELF core of the process that it runs in, which goes on
// meanwhile.
//
// What is dumped is a copy of the process as it was at one moment, which the kernel makes
// page by page as the process goes on. The core has the process's own memory: what it
// shares with others, a guest's memory above all, is not in it. Of the threads' registers
// it has those that the kernel tells of threads in a system call: no thread is stopped,
// and goroutines keep what is of interest in memory.
//
// Specifications: System V ABI, chapter 5, program header; Linux
// include/uapi/linux/{elf,elfcore}.h; proc_pid_maps(5), proc_pid_mem(5).
package coredump

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"keel/hcl/sys"
)

// Errors of Write.
var (
	ErrBusy = errors.New("another core is being written")
	ErrDump = errors.New("cannot dump memory")
)

// Sink takes a core, piece by piece.
type Sink interface {
	// Write takes the next bytes, which are valid during the call.
	Write(b []byte) error
	// Zeros takes so many bytes that are zero.
	Zeros(n uint64) error
}

// piece is how much memory is read at once, in bytes.
const piece = 64 << 10

// firstToDie is the highest oom_score_adj (proc_pid_oom_score_adj(5)): where the copy
// takes too much memory the dump fails, and nothing else.
const firstToDie = "1000"

// busy is held while a core is written: each takes memory.
var busy sync.Mutex

// Write writes a core of this process. Errors: ErrBusy, ErrDump, and those of the sink.
func Write(to Sink) error {
	if !busy.TryLock() {
		return ErrBusy
	}
	defer busy.Unlock()
	runtime.LockOSThread() // the copy dies with the thread
	defer runtime.UnlockOSThread()
	pid, err := sys.Freeze()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDump, err)
	}
	defer func() {
		_ = unix.Kill(pid, unix.SIGKILL) // it is there until it has been waited for
		for {
			if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
				return
			}
		}
	}()
	dir := "/proc/" + strconv.Itoa(pid)
	if err := os.WriteFile(dir+"/oom_score_adj", []byte(firstToDie), 0); err != nil {
		return fmt.Errorf("%w: %w", ErrDump, err)
	}
	return write(dir, to)
}

// write writes a core with the memory of the process that a folder of /proc describes,
// and with the threads of this one.
func write(dir string, to Sink) error {
	text, err := os.ReadFile(dir + "/maps")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDump, err)
	}
	areas, err := parseMaps(string(text))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDump, err)
	}
	notes, err := allNotes(areas)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDump, err)
	}
	memory, err := os.Open(dir + "/mem")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDump, err)
	}
	defer memory.Close()
	if err := to.Write(headers(areas, notes)); err != nil {
		return err
	}
	for _, a := range areas {
		if a.dumped {
			if err := copyArea(memory, a, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyArea writes the memory of an area.
func copyArea(memory *os.File, a area, to Sink) error {
	var buf, none [piece]byte
	for at := a.start; at < a.end; {
		b := buf[:min(piece, a.end-at)]
		if _, err := memory.ReadAt(b, int64(at)); err != nil {
			return fmt.Errorf("%w: at %#x: %w", ErrDump, at, err)
		}
		var err error
		if bytes.Equal(b, none[:len(b)]) {
			err = to.Zeros(uint64(len(b)))
		} else {
			err = to.Write(b)
		}
		if err != nil {
			return err
		}
		at += uint64(len(b))
	}
	return nil
}
