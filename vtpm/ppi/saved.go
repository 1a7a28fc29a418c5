package ppi

import (
	"errors"
	"fmt"
)

// ErrSaved says that saved state is not what Marshal returned.
var ErrSaved = errors.New("saved physical presence state")

// Saved state: a version, then request, parameter, last request and result as 32-bit
// little-endian numbers, then the memory overwrite byte.
const (
	savedVersion = 1
	savedSize    = 1 + 4*4 + 1
)

// savedAt are the numbers that are saved, in order.
var savedAt = [...]int{RequestAt, ParameterAt, LastAt, ResponseAt}

// Marshal returns what must outlive power: requests, their parameters and results.
func (m *Memory) Marshal() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := append(make([]byte, 0, savedSize), savedVersion)
	for _, at := range savedAt {
		b = append(b, m.b[at:at+4]...)
	}
	return append(b, m.b[OverwriteAt])
}

// Restore takes what Marshal returned; nothing at all stands for a memory without
// requests. Its error is ErrSaved, and then the memory is unchanged.
func (m *Memory) Restore(saved []byte) error {
	switch {
	case len(saved) == 0:
		return nil
	case saved[0] != savedVersion:
		return fmt.Errorf("%w: version %d, this is version %d", ErrSaved, saved[0], savedVersion)
	case len(saved) != savedSize:
		return fmt.Errorf("%w: %d bytes, not %d", ErrSaved, len(saved), savedSize)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, at := range savedAt {
		copy(m.b[at:at+4], saved[1+4*i:])
	}
	m.b[OverwriteAt] = saved[savedSize-1]
	return nil
}
