package pci

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"keel/vtl/irq"
)

// msix is the MSI-X table and the pending bit array: a BAR of its own, the table
// in its lower half.
//
// Signalling takes no lock. An entry's data, the low half of its address and its
// mask live in one word, so that a signal never mixes two messages. Masking is a
// store followed by a look at the other side, on both sides: who signals sets
// the pending bit and looks at the mask again, who unmasks clears the mask and
// looks at the pending bit. Go's atomics are sequentially consistent, so that at
// least one of the two sees the other, and clearing the bit decides who sends.
type msix struct {
	target  irq.MSITarget
	pba     uint64 // offset of the pending bits
	entries []entry
	pending []atomic.Uint64
	gate    atomic.Uint32
	enabled atomic.Bool // with or without bus mastering

	refused, dropped, noVector, signalled atomic.Uint64

	mu sync.Mutex // writers of entries
}

// entry is one vector. The bits of message: data, address without its two low
// bits, which are zero, and entryMasked.
type entry struct {
	message     atomic.Uint64
	addressHigh atomic.Uint32
}

const entryMasked = 1 << 0

// Bits of gate.
const (
	gateOpen = 1 << iota
	gateMasked
)

func newMSIX(vectors int, target irq.MSITarget) *msix {
	m := &msix{
		target:  target,
		pba:     minTableSpace,
		entries: make([]entry, vectors),
		pending: make([]atomic.Uint64, (vectors+vectorsPerWord-1)/vectorsPerWord),
	}
	for m.pba < uint64(vectors)*vectorSize {
		m.pba *= 2
	}
	return m
}

// size is the length of the BAR.
func (m *msix) size() uint64 { return 2 * m.pba }

// reset masks every vector and forgets what is pending (PCI 3.0 §6.8.2.9).
func (m *msix) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.entries {
		m.entries[i].message.Store(entryMasked)
		m.entries[i].addressHigh.Store(0)
	}
	for i := range m.pending {
		m.pending[i].Store(0)
	}
}

// setGate opens or closes the way out for all vectors.
func (m *msix) setGate(open, masked bool) {
	var g uint32
	if open {
		g |= gateOpen
	}
	if masked {
		g |= gateMasked
	}
	if m.gate.Swap(g) == g || g != gateOpen {
		return
	}
	for w := range m.pending {
		for p := m.pending[w].Load(); p != 0; p &= p - 1 {
			m.flush(w*vectorsPerWord + bits.TrailingZeros64(p))
		}
	}
}

// signal sends a vector or leaves it pending.
func (m *msix) signal(v int) {
	if v < 0 || v >= len(m.entries) {
		m.noVector.Add(1)
		return
	}
	g := m.gate.Load()
	if g&gateOpen == 0 {
		m.dropped.Add(1)
		return
	}
	if msg := m.entries[v].message.Load(); g&gateMasked == 0 && msg&entryMasked == 0 {
		m.send(v, msg)
		return
	}
	m.postpone(v)
}

// postpone leaves a vector pending that was masked a moment ago, and sends it if it
// no longer is.
func (m *msix) postpone(v int) {
	m.pending[v/vectorsPerWord].Or(1 << (v % vectorsPerWord))
	m.flush(v)
}

// flush sends a vector that is pending and no longer masked.
func (m *msix) flush(v int) {
	msg := m.entries[v].message.Load()
	if m.gate.Load() != gateOpen || msg&entryMasked != 0 {
		return
	}
	bit := uint64(1) << (v % vectorsPerWord)
	if m.pending[v/vectorsPerWord].And(^bit)&bit != 0 {
		m.send(v, msg)
	}
}

func (m *msix) send(v int, msg uint64) {
	m.signalled.Add(1)
	address := uint64(m.entries[v].addressHigh.Load())<<32 | msg&0xfffffffc
	m.target.SignalMSI(address, uint32(msg>>32))
}

// ReadMMIO reads the table or the pending bits. Software accesses whole dwords or
// quadwords (PCI 3.0 §6.8.2); everything else reads as zero.
func (m *msix) ReadMMIO(offset uint64, size int) uint64 {
	if (size != 4 && size != 8) || offset&uint64(size-1) != 0 {
		m.refused.Add(1)
		return 0
	}
	v := uint64(m.read(offset))
	if size == 8 {
		v |= uint64(m.read(offset+4)) << 32
	}
	return v
}

func (m *msix) read(offset uint64) uint32 {
	if offset >= m.pba {
		w := (offset - m.pba) / 8
		if w >= uint64(len(m.pending)) {
			return 0
		}
		return uint32(m.pending[w].Load() >> (8 * (offset & 4)))
	}
	v := offset / vectorSize
	if v >= uint64(len(m.entries)) {
		return 0
	}
	e := &m.entries[v]
	switch offset % vectorSize / 4 {
	case entryAddressLow:
		return uint32(e.message.Load()) &^ 3
	case entryAddressHigh:
		return e.addressHigh.Load()
	case entryData:
		return uint32(e.message.Load() >> 32)
	}
	return uint32(e.message.Load() & entryMasked) // its place in a control dword too
}

// WriteMMIO writes the table; the pending bits are read-only.
func (m *msix) WriteMMIO(offset uint64, size int, value uint64) {
	if (size != 4 && size != 8) || offset&uint64(size-1) != 0 || offset >= m.pba {
		m.refused.Add(1)
		return
	}
	v := int(offset / vectorSize)
	if v >= len(m.entries) {
		m.refused.Add(1)
		return
	}
	e := &m.entries[v]
	m.mu.Lock()
	msg := e.write(e.message.Load(), int(offset%vectorSize/4), uint32(value))
	if size == 8 {
		msg = e.write(msg, int(offset%vectorSize/4)+1, uint32(value>>32))
	}
	e.message.Store(msg)
	m.mu.Unlock()
	m.flush(v)
}

// write returns the message with one dword of the entry changed.
func (e *entry) write(msg uint64, field int, value uint32) uint64 {
	switch field {
	case entryAddressLow:
		return msg&^0xfffffffc | uint64(value&^3)
	case entryAddressHigh:
		e.addressHigh.Store(value)
	case entryData:
		return msg&0xffffffff | uint64(value)<<32
	case entryControl:
		return msg&^entryMasked | uint64(value&entryControlMasked)
	}
	return msg
}
