package keyrelease

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// State tells which of all the states that a VM has ever sealed is meant.
type State struct {
	Sequence uint64   // one more with each commit; 0: nothing was ever committed
	Header   [32]byte // SHA-256 of what the sealed state begins with
	Key      [32]byte // KeyID of the key that seals it
	Start    bool     // the VM is about to use it; false: it runs, and has committed it
}

// MaxSequence bounds sequence numbers: no VM counts as far.
const MaxSequence = 1<<62 - 1

// Layout of a State. Integers are little endian.
const (
	atSequence = 0  // u64
	atFlags    = 8  // u32, bit 0: Start
	atHeader   = 12 // 32 bytes
	atKeyID    = 44 // 32 bytes
	stateSize  = 76

	flagStart = 1
)

// KeyID tells keys apart without giving them away.
func KeyID(key []byte) [32]byte { return sha256.Sum256(append([]byte(keyLabel), key...)) }

func (s *State) marshal() []byte {
	b := make([]byte, stateSize)
	binary.LittleEndian.PutUint64(b[atSequence:], s.Sequence)
	if s.Start {
		b[atFlags] = flagStart
	}
	copy(b[atHeader:], s.Header[:])
	copy(b[atKeyID:], s.Key[:])
	return b
}

// parseState is the inverse of marshal, and takes nothing else.
func parseState(b []byte) (*State, error) {
	flags := binary.LittleEndian.Uint32(b[atFlags:])
	s := &State{
		Sequence: binary.LittleEndian.Uint64(b[atSequence:]), Start: flags == flagStart,
		Header: [32]byte(b[atHeader:]), Key: [32]byte(b[atKeyID:]),
	}
	if s.Sequence > MaxSequence || flags&^flagStart != 0 {
		return nil, fmt.Errorf("%w: a report with sequence number %d and flags %#x; use the same Keel on both sides", ErrMalformed, s.Sequence, flags)
	}
	return s, nil
}
