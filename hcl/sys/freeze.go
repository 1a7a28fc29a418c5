package sys

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Freeze makes a copy of this process that does nothing: its memory is what that of this
// process was, and stays it. Pages are shared until this process writes to them. Shared
// mappings stay shared. The copy has no open files, and dies with the calling thread.
//
// The caller kills the copy and waits for its end (wait4(2)).
// Preconditions: the goroutine is locked to its thread until then.
func Freeze() (pid int, err error) {
	// No signal reaches the copy: it has no runtime that could take one.
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return 0, fmt.Errorf("freeze: %w", err)
	}
	child, errno := freeze()
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) // with a good mask it never fails
	if errno != 0 {
		return 0, fmt.Errorf("freeze: %w", errno)
	}
	return int(child), nil
}

// freeze forks. In the copy nothing of the Go runtime runs any more: other threads, which
// do not exist there, may hold its locks. So nothing here grows the stack or allocates.
//
//go:nosplit
//go:norace
func freeze() (child uintptr, errno syscall.Errno) {
	child, _, errno = syscall.RawSyscall(syscall.SYS_FORK, 0, 0, 0)
	if errno != 0 || child != 0 {
		return child, errno
	}
	_, _, _ = syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0)
	_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE_RANGE, 0, 1<<32-1, 0)
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_PAUSE, 0, 0, 0)
	}
}
