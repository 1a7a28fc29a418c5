package sys

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// KickSignal takes a VP's thread out of the guest. The signal stays blocked on
// that thread except inside the run call, so that it is never delivered to
// Go's runtime: it ends the run call, or WaitKick, and is consumed there.
// It is one of the real-time signals, which nothing else in a process uses.
const KickSignal = unix.Signal(62)

// preemptSignal is what Go's runtime sends to a thread that it wants to stop, for
// the collector above all (runtime/signal_unix.go, sigPreempt).
const preemptSignal = unix.SIGURG

// sigsetSize is the size of the kernel's signal set, in bytes (_NSIG / 8).
const sigsetSize = 8

// KickMask returns the signal mask for the inside of the run call, as
// KVM_SET_SIGNAL_MASK takes it: everything blocked but KickSignal and the one with
// which Go's runtime preempts.
func KickMask() [sigsetSize]byte {
	var m [sigsetSize]byte
	for i := range m {
		m[i] = 0xff
	}
	for _, open := range []unix.Signal{KickSignal, preemptSignal} {
		m[(open-1)/8] &^= 1 << ((open - 1) % 8)
	}
	return m
}

// BlockKick blocks KickSignal on the calling thread.
// Preconditions: the goroutine is locked to its thread.
func BlockKick() error {
	var set unix.Sigset_t
	set.Val[0] = 1 << (KickSignal - 1)
	return unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil)
}

// process is asked for once: a kick is one system call.
var process = unix.Getpid()

// Kick sends KickSignal to a thread of this process.
func Kick(tid int) {
	// The thread exists as long as its VP; a failure would mean that it is
	// gone, and then there is nothing to kick.
	_, _, _ = unix.RawSyscall(unix.SYS_TGKILL, uintptr(process), uintptr(tid), uintptr(KickSignal))
}

// DrainKick consumes a pending KickSignal of the calling thread, if any.
func DrainKick() {
	WaitKick(0)
}

// nap is how long WaitKick may hold on to its thread's processor. Giving it back
// makes Go's scheduler look around when the wait is over, which costs more than
// an idle processor for the time of a guest's clock tick.
const nap = 20 * time.Millisecond

// WaitKick blocks the calling thread until KickSignal is pending, consumes it,
// and reports true; or reports false once the time has passed, or before when Go's
// runtime preempts. A negative time waits without bound. Zero only looks.
// Preconditions: KickSignal is blocked on the thread.
func WaitKick(d time.Duration) bool {
	set := uint64(1) << (KickSignal - 1)
	var ts unix.Timespec
	tsp := unsafe.Pointer(nil)
	if d >= 0 {
		ts = unix.NsecToTimespec(int64(d))
		tsp = unsafe.Pointer(&ts)
	}
	var r uintptr
	var errno unix.Errno
	if d >= 0 && d < nap {
		r, _, errno = unix.RawSyscall6(unix.SYS_RT_SIGTIMEDWAIT,
			uintptr(unsafe.Pointer(&set)), 0, uintptr(tsp), sigsetSize, 0, 0)
	} else {
		r, _, errno = unix.Syscall6(unix.SYS_RT_SIGTIMEDWAIT,
			uintptr(unsafe.Pointer(&set)), 0, uintptr(tsp), sigsetSize, 0, 0)
	}
	return errno == 0 && r == uintptr(KickSignal)
}
