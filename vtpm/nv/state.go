// Package nv is what a TPM keeps when the power is off: the engine's permanent state, the
// mark that the TPM has been manufactured, and the physical presence request that waits
// for the next boot. They are one content of one store, so that they never contradict
// each other.
package nv

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of a State.
const (
	MaxEngine = 1 << 20 // bytes; libtpms has up to 143 kB today
	MaxPPI    = 1 << 10 // bytes; the memory of the physical presence interface (QEMU docs/specs/tpm)
)

// Errors of Decode.
var (
	ErrMalformed = errors.New("malformed TPM state")
	ErrNewer     = errors.New("TPM state of a newer format")
)

// State is what outlives power.
type State struct {
	// Engine is the permanent state of the engine, as it hands it out. It is never
	// empty: a State exists from the end of manufacture on.
	Engine []byte
	// Progress says how much of manufacture was done: what the numbers mean is its
	// own business, but they only grow, and 0 is that there is no TPM yet.
	Progress uint32
	// PPI is the physical presence request that the guest left, nil for none.
	PPI []byte
}

// Version is the version that Encode writes, the first one. Decode refuses later ones;
// whatever they change, they keep magic and version and read testdata/v1.
const Version = 1

// The layout, little-endian: a header, the engine's state, the request.
const (
	offMagic    = 0  // 4 bytes
	offVersion  = 4  // u32
	offProgress = 8  // u32
	offEngine   = 12 // u32, bytes
	offPPI      = 16 // u32, bytes
	headerBytes = 20
)

const magic = "KTPM"

// AppendTo writes the state behind b.
func (s *State) AppendTo(b []byte) ([]byte, error) {
	if err := s.check(); err != nil {
		return b, err
	}
	le := binary.LittleEndian
	b = append(b, magic...)
	b = le.AppendUint32(b, Version)
	b = le.AppendUint32(b, s.Progress)
	b = le.AppendUint32(b, uint32(len(s.Engine)))
	b = le.AppendUint32(b, uint32(len(s.PPI)))
	b = append(b, s.Engine...)
	return append(b, s.PPI...), nil
}

// check refuses what Decode would not read.
func (s *State) check() error {
	switch {
	case s.Progress == 0:
		return fmt.Errorf("%w: the TPM is not manufactured", ErrMalformed)
	case len(s.Engine) == 0 || len(s.Engine) > MaxEngine:
		return fmt.Errorf("%w: %d bytes of the engine", ErrMalformed, len(s.Engine))
	case len(s.PPI) > MaxPPI:
		return fmt.Errorf("%w: a request of %d bytes", ErrMalformed, len(s.PPI))
	}
	return nil
}

// Decode reads what AppendTo wrote, and nothing else. The State refers to b.
func Decode(b []byte) (*State, error) {
	le := binary.LittleEndian
	switch {
	case len(b) < headerBytes || string(b[:offVersion]) != magic:
		return nil, fmt.Errorf("%w: %d bytes without its header", ErrMalformed, len(b))
	case le.Uint32(b[offVersion:]) > Version:
		return nil, fmt.Errorf("%w: %d, this Keel knows %d", ErrNewer, le.Uint32(b[offVersion:]), Version)
	case le.Uint32(b[offVersion:]) == 0:
		return nil, fmt.Errorf("%w: version 0", ErrMalformed)
	}
	engine, ppi := uint64(le.Uint32(b[offEngine:])), uint64(le.Uint32(b[offPPI:]))
	if uint64(len(b)) != headerBytes+engine+ppi {
		return nil, fmt.Errorf("%w: %d bytes with %d of the engine and a request of %d", ErrMalformed, len(b), engine, ppi)
	}
	body := b[headerBytes:]
	s := &State{Progress: le.Uint32(b[offProgress:]), Engine: body[:engine:engine]}
	if ppi > 0 {
		s.PPI = body[engine:]
	}
	return s, s.check()
}
