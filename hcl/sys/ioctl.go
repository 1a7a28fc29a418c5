// Package sys is the fence around everything that Go's type system cannot
// check: ioctl arguments, addresses of mappings, thread-directed signals and
// timers, and the few instructions that need assembly. It is the only room
// that may import unsafe; what it exports is typed and bounded.
package sys

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ioctl issues a request whose argument is a plain number.
func Ioctl(fd int, request, arg uintptr) (int, error) {
	return again(func() (uintptr, unix.Errno) {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
		return r, errno
	})
}

// again repeats a request that a signal interrupted before it did anything.
// Go's runtime preempts with signals, and KVM gives up on one while it makes
// a VM.
func again(request func() (uintptr, unix.Errno)) (int, error) {
	for {
		r, errno := request()
		if errno == 0 {
			return int(r), nil
		}
		if errno != unix.EINTR {
			return -1, errno
		}
	}
}

// IoctlPtr issues a request whose argument is a structure that the kernel
// reads or writes. T must have the layout that the request expects.
func IoctlPtr[T any](fd int, request uintptr, arg *T) (int, error) {
	return again(func() (uintptr, unix.Errno) {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(arg)))
		return r, errno
	})
}

// Enter issues a request without an argument and returns the bare error
// number: it is the hot call of the VP loop, so nothing is allocated.
//
// Go's scheduler does not hear of the call. It would take the processor of a
// goroutine that stays with one thread out of every call, and watch for the next
// one 50,000 times a second. What it needs instead it gets: the run call lets its
// preemption signal through (KickMask), and there are more processors than VPs.
func Enter(fd int, request uintptr) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), request, 0)
	return errno
}

// ReadNow reads from a descriptor that makes its reader wait a few milliseconds at most.
// As with Enter, Go's scheduler does not hear of it.
func ReadNow(fd int, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// AddressOf returns the address of a mapping made by mmap, for structures that
// carry addresses to the kernel. Go's memory may move; mappings do not.
func AddressOf(mapping []byte) uintptr {
	return uintptr(unsafe.Pointer(unsafe.SliceData(mapping)))
}

// IoctlVia issues a request whose structure carries the address of a second
// one: via sets that address in arg.
func IoctlVia[T, U any](fd int, request uintptr, arg *T, target *U, via func(arg *T, address uint64)) (int, error) {
	// The target must not move while its address is a mere number.
	var pin runtime.Pinner
	pin.Pin(target)
	defer pin.Unpin()
	via(arg, uint64(uintptr(unsafe.Pointer(target))))
	return IoctlPtr(fd, request, arg)
}
