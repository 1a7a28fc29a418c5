package apic

import (
	"math/bits"
	"sync/atomic"

	"keel/vtl/irq"
)

// bitmap is one bit for each vector, as ISR is. Only the VP's thread uses it.
type bitmap [8]uint32

func (b *bitmap) set(v irq.Vector)   { b[v>>5] |= 1 << (v & 31) }
func (b *bitmap) clear(v irq.Vector) { b[v>>5] &^= 1 << (v & 31) }

// highest returns the highest vector whose bit is set, or false.
func (b *bitmap) highest() (irq.Vector, bool) {
	for i := len(b) - 1; i >= 0; i-- {
		if w := b[i]; w != 0 {
			return irq.Vector(i<<5 + bits.Len32(w) - 1), true
		}
	}
	return 0, false
}

// sharedBitmap is one bit for each vector that any thread may set, as IRR and
// TMR are.
type sharedBitmap [8]atomic.Uint32

// set sets a bit and reports whether it was clear.
func (b *sharedBitmap) set(v irq.Vector) bool {
	return b[v>>5].Or(1<<(v&31))>>(v&31)&1 == 0
}

func (b *sharedBitmap) clear(v irq.Vector)    { b[v>>5].And(^(uint32(1) << (v & 31))) }
func (b *sharedBitmap) has(v irq.Vector) bool { return b[v>>5].Load()>>(v&31)&1 != 0 }

func (b *sharedBitmap) reset() {
	for i := range b {
		b[i].Store(0)
	}
}

// highest returns the highest vector whose bit is set, or false.
func (b *sharedBitmap) highest() (irq.Vector, bool) {
	for i := len(b) - 1; i >= 0; i-- {
		if w := b[i].Load(); w != 0 {
			return irq.Vector(i<<5 + bits.Len32(w) - 1), true
		}
	}
	return 0, false
}
