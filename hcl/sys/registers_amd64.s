#include "textflag.h"

// One plain MOV each. The compiler's atomic store is an XCHG, which reads the
// register first; its plain loads and stores it may merge, split or drop.

// func load32(p unsafe.Pointer) uint32
TEXT ·load32(SB), NOSPLIT, $0-12
	MOVQ p+0(FP), AX
	MOVL (AX), AX
	MOVL AX, ret+8(FP)
	RET

// func load64(p unsafe.Pointer) uint64
TEXT ·load64(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	MOVQ (AX), AX
	MOVQ AX, ret+8(FP)
	RET

// func store32(p unsafe.Pointer, value uint32)
TEXT ·store32(SB), NOSPLIT, $0-12
	MOVQ p+0(FP), AX
	MOVL value+8(FP), CX
	MOVL CX, (AX)
	RET

// func store64(p unsafe.Pointer, value uint64)
TEXT ·store64(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	MOVQ value+8(FP), CX
	MOVQ CX, (AX)
	RET
