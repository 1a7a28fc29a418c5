package x86

// Bits of control registers (AMD64 APM vol. 2 §3.1.3).
const (
	CR4_PGE = 1 << 7 // global pages survive a load of CR3
)

// Bits of RFLAGS (AMD64 APM vol. 2 §3.1.6).
const (
	RFLAGS_RF = 1 << 16 // resume: a repeated instruction is under way
)
