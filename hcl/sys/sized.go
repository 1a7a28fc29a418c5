package sys

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// IoctlSized issues a request whose argument is a structure of variable length that
// says in its first four bytes how long it is (argsz, as VFIO's are). The length of
// buf is written there: the kernel reads and writes no byte beyond it.
func IoctlSized(fd int, request uintptr, buf []byte) (int, error) {
	const argsz = 4
	if len(buf) < argsz || uint64(len(buf)) > 1<<31 {
		return -1, fmt.Errorf("a structure of %d bytes: %w", len(buf), unix.EINVAL)
	}
	binary.NativeEndian.PutUint32(buf, uint32(len(buf)))
	return again(func() (uintptr, unix.Errno) {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(unsafe.SliceData(buf))))
		return r, errno
	})
}
