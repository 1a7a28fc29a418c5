// Package x86emu decodes and executes the instructions with which a guest
// reaches device memory and I/O ports. On SEV-SNP and TDX the paravisor gets
// the raw fault and has to run the instruction itself.
//
// Scope, in 16-, 32- and 64-bit modes, with registers, RAM or device memory as
// operands: MOV (also moffs, immediate and from a segment register), MOVZX,
// MOVSX, MOVSXD, MOVBE, MOVNTI, CMOVcc, SETcc; ADD, ADC, SUB, SBB, AND, OR,
// XOR, CMP, TEST, INC, DEC, NOT, NEG; BT, BTS, BTR, BTC; XCHG, XADD, CMPXCHG,
// CMPXCHG8B, CMPXCHG16B; PUSH, POP; near indirect CALL and JMP; MOVS, CMPS,
// STOS, LODS, SCAS, INS, OUTS with their repeat prefixes; the SSE moves of
// whole registers, quadwords, doublewords and scalars, and their VEX forms of
// 128 and 256 bits. Addresses go through segmentation and through paging of
// every format, with protection keys for user pages.
//
// Left out, and answered with [Unsupported]: everything else that is defined,
// among it far transfers, shifts, MUL and DIV, MMX, EVEX, and the VEX moves
// with three operands. Not modelled: supervisor protection keys, shadow stacks
// (calls under CR4.CET are refused), LASS, LAM, hardware breakpoints, and the
// interrupt shadow, which the caller clears after [Done].
//
// Where the manuals leave a flag undefined it stays as it was, except AF after
// logic, which processors clear. Fetching sets no accessed bits: the processor
// did so when it fetched the instruction that faulted.
//
// Specifications: Intel SDM vol. 1 §3 and §5, vol. 2 (instruction format,
// instruction reference, opcode map), vol. 3 §4 (paging), §5 (protection), §6
// (exceptions); AMD64 APM vol. 2 §4, §5 and §8, vol. 3 §1 and appendix A.
package x86emu
