package sys

import (
	"sync/atomic"
	"unsafe"
)

// CompareAndSwap64 replaces the first eight bytes of memory that others change, in the
// machine's byte order, if they are as expected.
// Preconditions: the mapping is aligned to eight bytes and at least as long.
func CompareAndSwap64(mapping []byte, before, after uint64) bool {
	_ = mapping[7]
	return atomic.CompareAndSwapUint64((*uint64)(unsafe.Pointer(unsafe.SliceData(mapping))), before, after)
}

// LoadUint32 reads the first four bytes of memory that a device or another
// process changes, exactly once, in the machine's byte order.
// Preconditions: the mapping is aligned to four bytes and at least as long.
func LoadUint32(mapping []byte) uint32 {
	_ = mapping[3]
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(unsafe.SliceData(mapping))))
}
