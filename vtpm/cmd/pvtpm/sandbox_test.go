package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keel/paravisor/worker"
	"keel/vtpm/engine"
	"keel/vtpm/vtpmtest"
)

// probe is the argument with which this test program is the worker: it enters the
// sandbox and does what the argument after it says.
const probe = "-probe="

func TestMain(m *testing.M) {
	if len(os.Args) == 2 {
		if name, ok := strings.CutPrefix(os.Args[1], probe); ok {
			runProbe(name)
		}
	}
	os.Exit(m.Run())
}

// probes are what a worker that somebody took over might try. Those that end in a
// system call outside of the filter never return.
var probes = map[string]func() string{
	"open":               func() string { return call(unix.SYS_OPENAT, 0, 0, 0) },
	"open, old":          func() string { return call(unix.SYS_OPEN, 0, 0, 0) },
	"openat2":            func() string { return call(unix.SYS_OPENAT2, 0, 0, 0) },
	"socket":             func() string { return call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0) },
	"socket, vsock":      func() string { return call(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0) },
	"receive descriptor": func() string { return call(unix.SYS_RECVMSG, fdCommands, 0, 0) },
	"send descriptor":    func() string { return call(unix.SYS_SENDMSG, fdCommands, 0, 0) },
	"execve":             func() string { return call(unix.SYS_EXECVE, 0, 0, 0) },
	"fork":               func() string { return call(unix.SYS_FORK, 0, 0, 0) },
	"clone process":      func() string { return call(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0) },
	"clone namespace":    func() string { return call(unix.SYS_CLONE, threadFlags|unix.CLONE_NEWUSER, 0, 0) },
	"unshare":            func() string { return call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0) },
	"ptrace":             func() string { return call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1, 0) },
	"process_vm_readv":   func() string { return call(unix.SYS_PROCESS_VM_READV, 1, 0, 0) },
	"process_vm_writev":  func() string { return call(unix.SYS_PROCESS_VM_WRITEV, 1, 0, 0) },
	"pidfd_open":         func() string { return call(unix.SYS_PIDFD_OPEN, 1, 0, 0) },
	"kill":               func() string { return call(unix.SYS_KILL, ^uintptr(0), uintptr(unix.SIGKILL), 0) },
	"signal a stranger":  func() string { return call(unix.SYS_TGKILL, 2, 2, 0) },
	"mount":              func() string { return call(unix.SYS_MOUNT, 0, 0, 0) },
	"chroot":             func() string { return call(unix.SYS_CHROOT, 0, 0, 0) },
	"setuid":             func() string { return call(unix.SYS_SETUID, 0, 0, 0) },
	"prctl dumpable":     func() string { return call(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1, 0) },
	"bpf":                func() string { return call(unix.SYS_BPF, 0, 0, 0) },
	"io_uring":           func() string { return call(unix.SYS_IO_URING_SETUP, 1, 0, 0) },
	"userfaultfd":        func() string { return call(unix.SYS_USERFAULTFD, 0, 0, 0) },
	"perf_event_open":    func() string { return call(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0) },
	"keyctl":             func() string { return call(unix.SYS_KEYCTL, 0, 0, 0) },
	"ioctl":              func() string { return call(unix.SYS_IOCTL, 0, 0, 0) },
	"munlockall":         func() string { return call(unix.SYS_MUNLOCKALL, 0, 0, 0) },
	"memfd_create":       func() string { return call(unix.SYS_MEMFD_CREATE, 0, 0, 0) },
	"stat a file":        func() string { return call(unix.SYS_NEWFSTATAT, unix.AT_FDCWD&(1<<64-1), 0, 0) },
	"executable mmap": func() string {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
		return fmt.Sprint(err)
	},
	"mmap of a file": func() string {
		_, err := unix.Mmap(fdCommands, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
		return fmt.Sprint(err)
	},
	"executable mprotect": func() string {
		b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC))
	},
	"no such call": func() string { return call(1000, 0, 0, 0) },
}

// harmless are probes of what must work.
var harmless = map[string]func() string{
	"pid":     func() string { return strconv.Itoa(os.Getpid()) },
	"threads": useThreads,
	"clone3":  func() string { return call(435, 0, 0, 0) },
}

// useThreads makes the runtimes start threads, collect garbage and sleep.
func useThreads() string {
	done := make(chan bool)
	for range 8 {
		go func() {
			runtime.LockOSThread()
			keep := make([][]byte, 64)
			for i := range 200 {
				keep[i%64] = make([]byte, 64<<10)
			}
			time.Sleep(time.Millisecond)
			done <- true
		}()
	}
	for range 8 {
		<-done
	}
	runtime.GC()
	return "done"
}

func call(nr, a, b, c uintptr) string {
	_, _, errno := unix.RawSyscall(nr, a, b, c)
	return errno.Error()
}

// runProbe is the worker.
func runProbe(name string) {
	signal.Reset()
	err := engine.Prepare()
	if err == nil {
		err = readable(fdCommands)
	}
	if err == nil {
		err = enterSandbox()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, "confined")
	do := probes[name]
	if do == nil {
		do = harmless[name]
	}
	io.WriteString(socket(fdCommands), do())
	os.Exit(0)
}

// start runs a probe. It returns what the probe wrote and how it ended.
func start(t *testing.T, name string) (string, worker.Stats, error) {
	t.Helper()
	vtpmtest.NeedRoot(t)
	exe := testProgram(t)
	s := worker.New(worker.Config{
		Name: name, Path: exe, Args: []string{probe + name}, UserID: vtpmtest.UserID, Sockets: 2,
		LockMemory: vtpmtest.CanLock(), Log: slog.New(slog.DiscardHandler),
	})
	p, err := s.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	late := time.AfterFunc(time.Minute, p.Kill)
	defer late.Stop()
	if _, err := p.Socket(0).Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	// What it wrote is there until read, reset or not.
	out := make([]byte, 256)
	n, _ := p.Socket(0).Read(out)
	err = p.Err()
	return string(out[:n]), s.Stats(), err
}

// testProgram returns this program where the worker's user may run it.
func testProgram(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	to := dir + "/probe"
	b, err := os.ReadFile(exe)
	if err == nil {
		err = errors.Join(os.WriteFile(to, b, 0o755), os.Chmod(dir, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestForbidden: a system call outside of the filter ends the process before it
// happens.
func TestForbidden(t *testing.T) {
	for name := range probes {
		t.Run(name, func(t *testing.T) {
			out, stats, err := start(t, name)
			if out != "" || err == nil || !strings.Contains(err.Error(), "filter") {
				t.Errorf("it went on: %q, %v", out, err)
			}
			if stats.LogLines != 1 {
				t.Errorf("%d lines of log: it did not get into the sandbox", stats.LogLines)
			}
		})
	}
}

// TestAllowed: both runtimes work in the sandbox.
func TestAllowed(t *testing.T) {
	for name, want := range map[string]string{"pid": "1", "threads": "done", "clone3": syscall.ENOSYS.Error()} {
		if out, _, err := start(t, name); out != want || err != nil {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
}
