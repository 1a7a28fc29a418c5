package nv

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"keel/boot/handoff"
	"keel/vtpm"
)

// ErrBackwards is an attempt to take manufacture back.
var ErrBackwards = errors.New("a TPM cannot be manufactured again")

// NV is the state of one TPM in a sealed store. Its methods may be called from any
// goroutine.
//
// Until manufacture is done, nothing is written: Commit keeps the engine's state in
// memory, and Advance then makes all of it durable at once. A power failure in the middle
// therefore leaves no TPM at all, and the next boot manufactures one. Nobody has seen the
// half of the first: manufacture ends before the guest starts. Once there is a TPM, no
// error of the store makes Load say that there is none.
type NV struct {
	backing vtpm.Store // of the whole content

	mu       sync.Mutex
	progress uint32
	ppi      []byte
	draft    []byte // of the engine, while progress is 0
	buf      []byte
}

var _ vtpm.Store = (*NV)(nil)

// Open reads the state that a store has. Its errors are of type *handoff.Failure.
func Open(backing vtpm.Store) (*NV, error) {
	n := &NV{backing: backing}
	s, err := n.read()
	if err != nil {
		return nil, &handoff.Failure{
			Outcome: handoff.OutcomeBadState, Cause: "TPM state", Err: err,
			Remedy: "use the Keel that wrote it or a later one, or give the state up with --tpm-state-reset",
		}
	}
	if s != nil {
		n.progress, n.ppi = s.Progress, bytes.Clone(s.PPI)
	}
	return n, nil
}

// read returns what the store has, nil for nothing.
func (n *NV) read() (*State, error) {
	b, err := n.backing.Load()
	if err != nil || b == nil {
		return nil, err
	}
	return Decode(b)
}

// Progress tells how much of manufacture was done; 0: there is no TPM yet.
func (n *NV) Progress() uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.progress
}

// Load returns the permanent state of the engine, nil when it never had one.
func (n *NV) Load() ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.load()
}

func (n *NV) load() ([]byte, error) {
	if n.progress == 0 {
		return bytes.Clone(n.draft), nil
	}
	s, err := n.read()
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return nil, fmt.Errorf("%w: it is gone", ErrMalformed)
	}
	return s.Engine, nil
}

// Commit makes the permanent state of the engine durable, once there is a TPM; see NV.
func (n *NV) Commit(engine []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.progress > 0 {
		return n.write(&State{Engine: engine, Progress: n.progress, PPI: n.ppi})
	}
	if len(engine) == 0 || len(engine) > MaxEngine {
		return fmt.Errorf("%w: %d bytes of the engine", ErrMalformed, len(engine))
	}
	n.draft = append(n.draft[:0], engine...)
	return nil
}

// Advance marks a step of manufacture as done, durably and together with what the engine
// committed before. Preconditions: the engine has committed all that belongs to the step.
func (n *NV) Advance(progress uint32) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case progress < n.progress || progress == 0:
		return fmt.Errorf("%w: from %d to %d", ErrBackwards, n.progress, progress)
	case progress == n.progress:
		return nil
	}
	engine, err := n.load()
	if err == nil {
		err = n.write(&State{Engine: engine, Progress: progress, PPI: n.ppi})
	}
	if err != nil {
		return err
	}
	n.progress = progress
	clear(n.draft)
	n.draft = nil
	return nil
}

// PPI returns the physical presence request that waits, nil for none.
func (n *NV) PPI() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return bytes.Clone(n.ppi)
}

// SetPPI keeps a physical presence request, durably once there is a TPM; nil ends it.
func (n *NV) SetPPI(request []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(request) > MaxPPI {
		return fmt.Errorf("%w: a request of %d bytes", ErrMalformed, len(request))
	}
	if bytes.Equal(request, n.ppi) {
		return nil
	}
	if n.progress > 0 {
		engine, err := n.load()
		if err == nil {
			err = n.write(&State{Engine: engine, Progress: n.progress, PPI: request})
		}
		if err != nil {
			return err
		}
	}
	n.ppi = bytes.Clone(request)
	return nil
}

// write commits a whole content. Preconditions: locked.
func (n *NV) write(s *State) error {
	b, err := s.AppendTo(n.buf[:0])
	if err == nil {
		err = n.backing.Commit(b)
	}
	n.buf = b[:0]
	clear(b) // secrets stay nowhere longer than they must
	return err
}
