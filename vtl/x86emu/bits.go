package x86emu

// truncate keeps the low n bytes of v, n being 1, 2, 4 or 8.
func truncate(v uint64, n int) uint64 {
	if n >= 8 {
		return v
	}
	return v & (1<<(8*n) - 1)
}

// signExtend widens the low n bytes of v.
func signExtend(v uint64, n int) uint64 {
	if n >= 8 {
		return v
	}
	shift := uint(64 - 8*n)
	return uint64(int64(v<<shift) >> shift)
}

// signBit is the sign of an operand of n bytes.
func signBit(n int) uint64 { return 1 << (8*n - 1) }

// getInt reads a little-endian integer.
func getInt(p []byte) (v uint64) {
	for i, b := range p {
		v |= uint64(b) << (8 * i)
	}
	return v
}

// putInt writes a little-endian integer into all of p.
func putInt(p []byte, v uint64) {
	for i := range p {
		p[i] = byte(v >> (8 * i))
	}
}

// swapBytes reverses the order of n bytes.
func swapBytes(v uint64, n int) (r uint64) {
	for range n {
		r = r<<8 | v&0xFF
		v >>= 8
	}
	return r
}
