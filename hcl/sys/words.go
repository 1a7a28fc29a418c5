package sys

import "unsafe"

// wordSize is the size of a word of Words, in bytes.
const wordSize = 4

// Words returns the same memory as b, as 32-bit words in the machine's byte order,
// for what sync/atomic must load or store at once. Bytes beyond the last whole word
// are left out. The words are valid for as long as b is mapped. Memory that is not
// aligned to four bytes gives nil.
// Preconditions: b is a mapping, or other memory that does not move.
func Words(b []byte) []uint32 {
	start := unsafe.Pointer(unsafe.SliceData(b))
	if len(b) < wordSize || uintptr(start)%wordSize != 0 {
		return nil
	}
	return unsafe.Slice((*uint32)(start), len(b)/wordSize)
}
