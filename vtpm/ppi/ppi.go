// Package ppi is the memory of the Physical Presence Interface: in it an operating system
// leaves a request for the firmware, which carries it out at the next boot, while it still
// may use the platform hierarchy, and leaves the result. Keel is the firmware; the layout
// is QEMU's, so that OVMF or SeaBIOS can be it too.
//
// All of the memory is the guest's to write. A request is copied once, and it can do
// nothing but what it names: clear the TPM that is the guest's own.
//
// Specifications: TCG PC Client Physical Presence Interface 1.30; TCG PC Client Platform
// Reset Attack Mitigation 1.10; QEMU docs/specs/tpm.rst.
package ppi

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

var le = binary.LittleEndian

// Memory is the memory. It implements bus.MMIODevice over Size bytes. A reset of the
// machine leaves it as it is: what it holds is for the boot that follows.
type Memory struct {
	done, failed, unknown atomic.Uint64

	mu sync.Mutex // guards the bytes
	b  [Size]byte
}

// Stats is a copy of a Memory's counters.
type Stats struct {
	Done    uint64 // requests that the TPM carried out
	Failed  uint64 // requests that it did not
	Unknown uint64 // requests for what there is not
}

// New returns a memory in which firmware has said what can be asked for, with no request.
func New() *Memory {
	m := &Memory{}
	m.offer()
	return m
}

// Stats returns the counters.
func (m *Memory) Stats() Stats {
	return Stats{Done: m.done.Load(), Failed: m.failed.Load(), Unknown: m.unknown.Load()}
}

// offer writes what the firmware tells the methods.
func (m *Memory) offer() {
	clear(m.b[FuncAt : FuncAt+FuncCount])
	for _, op := range []int{opNone, opEnable, opClear, opEnableClear, opEnableClear2, opEnableClear3} {
		m.b[FuncAt+op] = funcAllowedNoUser
	}
	m.b[InitializedAt] = 1
}

// ReadMMIO reads memory.
func (m *Memory) ReadMMIO(offset uint64, size int) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b [8]byte
	copy(b[:size], m.b[offset:])
	return le.Uint64(b[:])
}

// WriteMMIO writes memory.
func (m *Memory) WriteMMIO(offset uint64, size int, value uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b [8]byte
	le.PutUint64(b[:], value)
	copy(m.b[offset:], b[:size])
}

// TakeOverwriteRequest tells whether the guest asked that all of its memory be cleared
// before another one runs in it (MemoryOverwriteRequestControl), and forgets that. Call it
// at a reset.
func (m *Memory) TakeOverwriteRequest() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	asked := m.b[OverwriteAt]&overwriteRequest != 0
	m.b[OverwriteAt] &^= overwriteRequest
	return asked
}
