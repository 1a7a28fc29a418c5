package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errSandbox says that the worker could not shut itself in. It ends then.
var errSandbox = errors.New("cannot enter the sandbox")

// Descriptors that the paravisor hands over.
const (
	fdLog      = 2
	fdCommands = 3
	fdCancels  = 4
	fdFirst    = 5 // from here on nothing is expected
)

// workID is the user and the group that the worker takes, in its own user namespace.
const workID = 1

// emptyRoot is the folder that the empty root is mounted on first. It exists wherever
// Linux runs.
const emptyRoot = "/proc"

// enterSandbox leaves the process with its sockets, its memory and a few system calls.
//
// Preconditions: new user, mount, PID and network namespaces, with user and group 1
// mapped beside 0; engine.Prepare was called.
func enterSandbox() error {
	// A sleep makes the Go runtime open the descriptors of its poller, while it may.
	time.Sleep(time.Microsecond)
	for _, s := range []struct {
		name string
		do   func() error
	}{
		{"close descriptors", closeDescriptors},
		{"empty the root", emptyTheRoot},
		{"set limits", setLimits},
		{"lock memory", lockMemory},
		{"drop groups", func() error { return syscall.Setgroups(nil) }},
		{"change group", func() error { return syscall.Setresgid(workID, workID, workID) }},
		// All threads lose every capability with user 0.
		{"change user", func() error { return syscall.Setresuid(workID, workID, workID) }},
		{"forbid dumps", func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }},
		{"filter system calls", confine},
	} {
		if err := s.do(); err != nil {
			return fmt.Errorf("%w: %s: %w", errSandbox, s.name, err)
		}
	}
	return nil
}

// closeDescriptors closes standard input and output, and whatever leaked in. What stays
// beside the sockets and the log belongs to the Go runtime's poller.
func closeDescriptors() error {
	const dir = "/proc/self/fd"
	open, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range open {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			return err
		}
		// The folder's own descriptor is among them, and gone.
		what, err := os.Readlink(filepath.Join(dir, e.Name()))
		switch {
		case errors.Is(err, os.ErrNotExist), fd >= fdLog && fd < fdFirst:
		case fd >= fdFirst && (what == "anon_inode:[eventpoll]" || what == "anon_inode:[eventfd]"):
		case err != nil:
			return err
		default:
			if err := unix.Close(fd); err != nil {
				return err
			}
		}
	}
	return nil
}

// emptyTheRoot makes an empty, read-only file system the root, and lets the old one go.
func emptyTheRoot() error {
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("none", emptyRoot, "ramfs", flags, ""); err != nil {
		return err
	}
	if err := unix.Chdir(emptyRoot); err != nil {
		return err
	}
	switch err := unix.PivotRoot(".", "."); {
	case err == nil:
		// The old root now lies above the new one.
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return err
		}
	case errors.Is(err, unix.EINVAL):
		// The first root file system, an initramfs, cannot be exchanged: cover it.
		if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
			return err
		}
		if err := unix.Chroot("."); err != nil {
			return err
		}
	default:
		return err
	}
	return unix.Chdir("/")
}

// lockMemory keeps memory from being swapped out, where the paravisor lifted the limit,
// which only it can. Pages are locked as they are touched: the runtimes reserve far more
// than they use.
func lockMemory() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil || limit.Cur != unix.RLIM_INFINITY {
		return err
	}
	return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}

// setLimits forbids core dumps, files and further descriptors.
func setLimits() error {
	for _, resource := range []int{unix.RLIMIT_CORE, unix.RLIMIT_FSIZE, unix.RLIMIT_NOFILE, unix.RLIMIT_MSGQUEUE} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{}); err != nil {
			return err
		}
	}
	return nil
}
