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

// sigsetSize is the size of the kernel's signal set, in bytes (_NSIG / 8).
const sigsetSize = 8

// KickMask returns the signal mask for the inside of the run call, as
// KVM_SET_SIGNAL_MASK takes it: everything blocked but KickSignal.
func KickMask() [sigsetSize]byte {
	var m [sigsetSize]byte
	for i := range m {
		m[i] = 0xff
	}
	m[(KickSignal-1)/8] &^= 1 << ((KickSignal - 1) % 8)
	return m
}

// BlockKick blocks KickSignal on the calling thread.
// Preconditions: the goroutine is locked to its thread.
func BlockKick() error {
	var set unix.Sigset_t
	set.Val[0] = 1 << (KickSignal - 1)
	return unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil)
}

// Kick sends KickSignal to a thread of this process.
func Kick(tid int) {
	// The thread exists as long as its VP; a failure would mean that it is
	// gone, and then there is nothing to kick.
	_ = unix.Tgkill(unix.Getpid(), tid, KickSignal)
}

// DrainKick consumes a pending KickSignal of the calling thread, if any.
func DrainKick() {
	WaitKick(0)
}

// WaitKick blocks the calling thread until KickSignal is pending, consumes it,
// and reports true; or reports false once the time has passed. A negative time
// waits without bound. Zero only looks.
// Preconditions: KickSignal is blocked on the thread.
func WaitKick(d time.Duration) bool {
	set := uint64(1) << (KickSignal - 1)
	var ts unix.Timespec
	tsp := unsafe.Pointer(nil)
	if d >= 0 {
		ts = unix.NsecToTimespec(int64(d))
		tsp = unsafe.Pointer(&ts)
	}
	r, _, errno := unix.Syscall6(unix.SYS_RT_SIGTIMEDWAIT,
		uintptr(unsafe.Pointer(&set)), 0, uintptr(tsp), sigsetSize, 0, 0)
	return errno == 0 && r == uintptr(KickSignal)
}
