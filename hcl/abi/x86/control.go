package x86

// Bits of control registers (AMD64 APM vol. 2 §3.1.3).
const (
	CR4_PGE = 1 << 7 // global pages survive a load of CR3
)
