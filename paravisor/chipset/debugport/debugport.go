// Package debugport emulates the POST code port, a byte of storage.
package debugport

import "sync/atomic"

// Scratch is the port. Its zero value is ready. It implements bus.PIODevice
// over one port, and bus.Resetter.
type Scratch struct{ code atomic.Uint32 }

// Reset clears the code.
func (s *Scratch) Reset() { s.code.Store(0) }

// ReadPIO returns the last code written.
func (s *Scratch) ReadPIO(_ uint16, _ int) uint32 { return s.code.Load() }

// WritePIO stores a code.
func (s *Scratch) WritePIO(_ uint16, _ int, value uint32) { s.code.Store(value & 0xff) }
