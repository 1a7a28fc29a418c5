package gueststate

import "crypto/sha256"

// Mark tells a commit from all others of the same VM: those before it, and those of a fork
// that its host has made.
type Mark struct {
	Sequence uint64
	Header   [sha256.Size]byte // SHA-256 of the slot's header
}

// Mark returns that of what was committed last.
func (s *Store) Mark() Mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest.mark()
}

func (h *header) mark() Mark {
	var b [headerBytes]byte
	h.put(b[:])
	return Mark{h.sequence, sha256.Sum256(b[:])}
}

// confirm asks whether a state may be used.
func (o *Options) confirm(m Mark) (floor uint64, err error) {
	if o.Confirm == nil {
		return 0, nil
	}
	return o.Confirm(m)
}

// raise commits the content once more, into both slots, if its sequence number is below
// floor. Until the first is durable, the state is as it was.
func (s *Store) raise(floor uint64) error {
	if s.newest.sequence >= floor {
		return nil
	}
	s.report.Raised = true
	content := s.first
	for range slots {
		if err := s.write(content, s.newest.slot^1, max(s.newest.sequence+1, floor)); err != nil {
			return err
		}
	}
	s.first = content
	return nil
}
