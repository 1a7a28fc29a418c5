package x86emu

import "math/bits"

// Flags as SDM vol. 1 §3.4.3.1 and appendix A define them. Operands and
// results are truncated to n bytes.

// resultFlags computes PF, ZF and SF.
func resultFlags(r uint64, n int) uint64 {
	var f uint64
	if bits.OnesCount8(uint8(r))%2 == 0 {
		f |= flagPF
	}
	if r == 0 {
		f |= flagZF
	}
	if r&signBit(n) != 0 {
		f |= flagSF
	}
	return f
}

// add returns a + b + carry and the arithmetic flags.
func add(a, b, carry uint64, n int) (r, f uint64) {
	r, out := bits.Add64(a, b, carry)
	if n < 8 {
		out = r >> (8 * n) & 1
	}
	r = truncate(r, n)
	f = resultFlags(r, n) | out*flagCF | (a^b^r)&flagAF
	if (a^r)&(b^r)&signBit(n) != 0 {
		f |= flagOF
	}
	return r, f
}

// sub returns a - b - borrow and the arithmetic flags.
func sub(a, b, borrow uint64, n int) (r, f uint64) {
	r, out := bits.Sub64(a, b, borrow)
	r = truncate(r, n)
	f = resultFlags(r, n) | out*flagCF | (a^b^r)&flagAF
	if (a^b)&(a^r)&signBit(n) != 0 {
		f |= flagOF
	}
	return r, f
}

// compute applies an operation with two operands, or one, to the old value of
// its destination. It returns the new value and the whole of RFLAGS.
func compute(op Op, old, src, rflags uint64, n int) (after, flags uint64) {
	carry := rflags & flagCF
	set := uint64(flagsArithmetic)
	var f uint64
	switch op {
	case OpADD, OpXADD:
		after, f = add(old, src, 0, n)
	case OpADC:
		after, f = add(old, src, carry, n)
	case OpSUB, OpCMP:
		after, f = sub(old, src, 0, n)
	case OpSBB:
		after, f = sub(old, src, carry, n)
	case OpNEG:
		after, f = sub(0, old, 0, n)
	case OpAND, OpTEST:
		after = old & src
		f = resultFlags(after, n)
	case OpOR:
		after = old | src
		f = resultFlags(after, n)
	case OpXOR:
		after = old ^ src
		f = resultFlags(after, n)
	case OpINC:
		after, f = add(old, 1, 0, n)
		set &^= flagCF
	case OpDEC:
		after, f = sub(old, 1, 0, n)
		set &^= flagCF
	case OpNOT:
		after, set = truncate(^old, n), 0
	default: // XCHG
		after, set = src, 0
	}
	return after, rflags&^set | f&set
}

// condition evaluates a condition code (Intel SDM vol. 2 appendix B, table B-10).
func condition(code uint8, rflags uint64) bool {
	less := rflags&flagSF != 0 != (rflags&flagOF != 0)
	var c bool
	switch code >> 1 & 7 {
	case 0:
		c = rflags&flagOF != 0
	case 1:
		c = rflags&flagCF != 0
	case 2:
		c = rflags&flagZF != 0
	case 3:
		c = rflags&(flagCF|flagZF) != 0
	case 4:
		c = rflags&flagSF != 0
	case 5:
		c = rflags&flagPF != 0
	case 6:
		c = less
	case 7:
		c = less || rflags&flagZF != 0
	}
	return c != (code&1 != 0)
}
