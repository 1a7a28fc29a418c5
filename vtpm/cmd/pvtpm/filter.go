package main

import (
	"os"
	"runtime"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

// allowed are the system calls that the worker makes once it is confined, each with its
// reason. Any other kills the process. None opens a file, makes a socket, sees another
// process or makes memory executable.
//
// The threads of a Go program with cgo are threads of the C library: those calls are
// listed as "C thread".
var allowed = []string{
	"read",  // commands, cancels; the runtime's eventfd
	"write", // responses, the log; the runtime's eventfd

	"getrandom", // entropy: libcrypto and the Go runtime

	"futex",             // locks of both runtimes
	"epoll_pwait",       // Go: idle threads wait for timers
	"nanosleep",         // Go: spinning threads, the monitor thread
	"sched_yield",       // Go: spinning threads
	"sched_getaffinity", // C thread: cgo asks for the bounds of a new thread's stack
	"clock_gettime",     // both, where the vDSO cannot read the clock itself
	"gettimeofday",      // C, likewise
	"getpid",            // Go: to signal a thread of its own
	"gettid",            // Go: new threads
	"restart_syscall",   // the kernel makes it when a stopped process goes on

	"rt_sigaction",   // Go: back to the default before it dies of a signal
	"rt_sigprocmask", // Go and C thread: signals are blocked while a thread starts
	"rt_sigreturn",   // Go: the end of each signal handler
	"sigaltstack",    // Go: signal stacks of threads

	"munmap",          // both allocators; stacks of C threads that ended
	"madvise",         // Go: memory goes back to the kernel; C thread: stacks likewise
	"mremap",          // C allocator: large blocks grow
	"brk",             // C allocator
	"set_robust_list", // C thread
	"rseq",            // C thread

	"exit",       // a thread ends
	"exit_group", // the process ends: the paravisor closed its socket
}

// threadFlags are the flags with which the C library makes a thread, and so the only
// ones of clone: CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID,
// CHILD_CLEARTID. Processes and namespaces need others.
const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD |
	unix.CLONE_SYSVSEM | unix.CLONE_SETTLS | unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_CLEARTID

// policy returns the filter.
func policy() seccomp.Policy {
	arg := func(n uint32, op seccomp.Operation, value uint64) seccomp.Condition {
		return seccomp.Condition{Argument: n, Operation: op, Value: value}
	}
	return seccomp.Policy{
		DefaultAction: seccomp.ActionKillProcess,
		Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionAllow, Names: allowed},
			{Action: seccomp.ActionAllow, NamesWithCondtions: []seccomp.NameWithConditions{
				// C: dprintf, with which libtpms logs, asks what its descriptor is. Which
				// of the last two depends on the C library.
				{Name: "lseek", Conditions: []seccomp.Condition{arg(0, seccomp.Equal, fdLog)}},
				{Name: "fstat", Conditions: []seccomp.Condition{arg(0, seccomp.Equal, fdLog)}},
				{Name: "newfstatat", Conditions: []seccomp.Condition{
					arg(0, seccomp.Equal, fdLog), arg(3, seccomp.Equal, unix.AT_EMPTY_PATH),
				}},
				// Memory of both allocators: of no file, never executable.
				{Name: "mmap", Conditions: []seccomp.Condition{
					arg(2, seccomp.BitsNotSet, unix.PROT_EXEC), arg(3, seccomp.BitsSet, unix.MAP_ANONYMOUS),
				}},
				{Name: "mprotect", Conditions: []seccomp.Condition{arg(2, seccomp.BitsNotSet, unix.PROT_EXEC)}},
				// Both runtimes start threads when they like.
				{Name: "clone", Conditions: []seccomp.Condition{arg(0, seccomp.Equal, threadFlags)}},
				// Go interrupts its own threads, and dies of a fatal signal.
				{Name: "tgkill", Conditions: []seccomp.Condition{arg(0, seccomp.Equal, uint64(os.Getpid()))}},
			}},
			// Its flags lie in memory, where a filter cannot see them. The C library
			// falls back to clone.
			{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"}},
		},
	}
}

// confine installs the filter on every thread of the process. It also sets no_new_privs.
func confine() error {
	// The library sets no_new_privs on this thread, then the filter on all.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: policy()})
}
