package sys

import (
	"sync/atomic"
	"unsafe"
)

// LoadUint32 reads the first four bytes of memory that a device or another
// process changes, exactly once, in the machine's byte order.
// Preconditions: the mapping is aligned to four bytes and at least as long.
func LoadUint32(mapping []byte) uint32 {
	_ = mapping[3]
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(unsafe.SliceData(mapping))))
}
