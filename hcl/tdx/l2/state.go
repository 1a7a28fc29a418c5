package l2

import (
	"encoding/binary"
	"errors"
	"fmt"

	"keel/hcl"
	"keel/hcl/abi/tdx"
)

// ErrState says that bytes are no L2_ENTER_GUEST_STATE.
var ErrState = errors.New("L2_ENTER_GUEST_STATE")

// EnterState is the state of an L2 that TDG.VP.ENTER reads from L1's memory, and writes
// there when the L2 is left (ABI, "L2_ENTER_GUEST_STATE").
type EnterState struct {
	Registers       hcl.Registers
	SSP             uint64
	InterruptStatus uint16 // RVI, and in the upper half SVI
}

// words lists the registers in the order in which they lie.
func (s *EnterState) words() [19]*uint64 {
	r := &s.Registers
	return [...]*uint64{
		&r.RAX, &r.RCX, &r.RDX, &r.RBX, &r.RSP, &r.RBP, &r.RSI, &r.RDI, &r.R8, &r.R9, &r.R10, &r.R11,
		&r.R12, &r.R13, &r.R14, &r.R15, &r.RFLAGS, &r.RIP, &s.SSP,
	}
}

// Decode reads a state from the first tdx.L2_STATE_SIZE bytes.
func (s *EnterState) Decode(b []byte) error {
	if len(b) < tdx.L2_STATE_SIZE {
		return fmt.Errorf("%w: %d bytes: pass at least %d", ErrState, len(b), tdx.L2_STATE_SIZE)
	}
	for i, w := range s.words() {
		*w = binary.LittleEndian.Uint64(b[8*i:])
	}
	s.InterruptStatus = binary.LittleEndian.Uint16(b[tdx.L2_STATE_INTERRUPT_STATUS:])
	return nil
}

// Encode writes a state, and nothing behind it.
func (s *EnterState) Encode(b []byte) error {
	if len(b) < tdx.L2_STATE_SIZE {
		return fmt.Errorf("%w: %d bytes: pass at least %d", ErrState, len(b), tdx.L2_STATE_SIZE)
	}
	for i, w := range s.words() {
		binary.LittleEndian.PutUint64(b[8*i:], *w)
	}
	binary.LittleEndian.PutUint16(b[tdx.L2_STATE_INTERRUPT_STATUS:], s.InterruptStatus)
	return nil
}
