package keyserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"keel/paravisor/keyrelease"
)

// A host can bring back a state disk as it was earlier, and nothing on the disk can tell.
// The server can: it keeps the highest sequence number that each VM has reported. What is
// newer is fine at any time, since a VM may end between a commit and its report. What is
// older is refused, unless the operator has allowed it. Then the VM goes on counting above
// all that was seen, so that the states in between stay old.

// report judges a state that a VM reports, and keeps the newest. older tells that an older
// one was accepted, because it is allowed: then floor is where the VM must go on counting.
// Its errors are *Refusal, ErrKeyFile, and ErrKeys when the record cannot be kept.
//
// Preconditions: keyrelease.CheckName takes the name.
func (s *store) report(vm string, state *keyrelease.State) (floor uint64, older bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, err := readKeyFile(s.file(vm, keySuffix), vm)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && keyrelease.KeyID(key) != state.Key:
		return 0, false, &Refusal{vm, RuleKey, errors.New("its state is sealed with a key that this server has not got any more; start the VM again")}
	case err != nil:
		return 0, false, err
	}
	last, err := readSeenFile(s.file(vm, seenSuffix), vm)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && last.key != state.Key:
		last = &seen{key: state.Key} // nothing yet, or of states that no key opens any more
	case err != nil:
		return 0, false, err
	}
	if cause := last.older(state); cause != "" {
		allowed := state.Start && s.allowed(vm)
		if !allowed {
			return 0, false, &Refusal{vm, RuleRollback, errors.New(cause +
				"; bring back the newest state, or allow an older one once ('keel keyserver allow-rollback " + vm + "' on the server)")}
		}
		// The allowance stays until the VM reports that it counts from there: were it
		// used up now, a VM that ends before that would need another.
		return last.sequence + 1, true, nil
	}
	if err := s.see(vm, last, state); err != nil {
		return 0, false, fmt.Errorf("%w: cannot keep what was seen: %w; see that the folder can be written and has space left", ErrKeys, err)
	}
	return 0, false, nil
}

// older says in which way a state is older than the one that was seen, "" when it is not.
func (s *seen) older(state *keyrelease.State) string {
	switch {
	case state.Sequence < s.sequence && state.Sequence == 0:
		return fmt.Sprintf("its state is empty, and sequence number %d was seen", s.sequence)
	case state.Sequence < s.sequence:
		return fmt.Sprintf("its state is older than one that was seen: sequence number %d, seen %d", state.Sequence, s.sequence)
	case state.Sequence == s.sequence && state.Sequence > 0 && state.Header != s.header:
		return fmt.Sprintf("its state is another one than was seen with the same sequence number, %d", s.sequence)
	}
	return ""
}

// see keeps a state that is not older than the last, and takes back the allowance that a
// VM which starts with it does not need.
func (s *store) see(vm string, last *seen, state *keyrelease.State) error {
	if state.Sequence > last.sequence {
		if err := s.replace(s.file(vm, seenSuffix), seenFile(vm, &seen{state.Key, state.Sequence, state.Header})); err != nil {
			return err
		}
	}
	if !state.Start || !s.allowed(vm) {
		return nil
	}
	if err := os.Remove(s.file(vm, allowSuffix)); err != nil {
		return err
	}
	return s.folder.Sync()
}

// allowed tells whether a VM may start with an older state.
func (s *store) allowed(vm string) bool {
	_, err := os.Lstat(s.file(vm, allowSuffix))
	return err == nil
}

// file names a file of a VM.
func (s *store) file(vm, suffix string) string { return filepath.Join(s.path, vm+suffix) }

// AllowRollback lets a VM start once with a state that is older than the one of the
// sequence number that it returns; also while a server has the folder of keys. Errors are
// ErrAllow, ErrKeys and ErrKeyFile.
func AllowRollback(keys, vm string) (sequence uint64, err error) {
	if err := keyrelease.CheckName(vm); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrAllow, err)
	}
	s, err := openFolder(keys)
	if err != nil {
		return 0, err
	}
	defer s.close()
	last, err := readSeenFile(s.file(vm, seenSuffix), vm)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w: VM %q has never reported one; see that its name and the folder are right", ErrAllow, vm)
	}
	if err != nil {
		return 0, err
	}
	if err := s.write(s.file(vm, allowSuffix), nil); err != nil && !errors.Is(err, fs.ErrExist) {
		return 0, fmt.Errorf("%w: %w; see that the folder can be written and has space left", ErrKeys, err)
	}
	return last.sequence, nil
}
