package keyserver

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"keel/paravisor/keyrelease"
)

// seen is the newest state that a VM has reported.
type seen struct {
	key      [32]byte // keyrelease.KeyID of what seals it
	sequence uint64
	header   [32]byte
}

// seenFile returns the contents of a VM's record. The checksum tells a damaged one, after
// which an old state would pass for a new one, or a new one for an old.
func seenFile(vm string, s *seen) []byte {
	b := fmt.Appendf(nil, "keel seen state 1\nvm %s\nkey %x\nsequence %d\nheader %x\n", vm, s.key, s.sequence, s.header)
	return fmt.Appendf(b, "sum %x\n", sha256.Sum256(b))
}

// readSeenFile returns the record of a VM. Errors are ErrKeyFile, but fs.ErrNotExist when
// there is none.
func readSeenFile(path, vm string) (*seen, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	s, err := parseSeenFile(b, vm)
	if err != nil {
		return nil, fmt.Errorf("%w: %s %w; restore it from a backup, or move it away and believe whatever state the VM has next", ErrKeyFile, path, err)
	}
	return s, nil
}

// parseSeenFile is the inverse of seenFile, and takes nothing else.
func parseSeenFile(b []byte, vm string) (*seen, error) {
	var s seen
	fields := map[string]string{}
	for line := range bytes.Lines(b) {
		name, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte{'\n'}), []byte{' '})
		fields[string(name)] = string(value)
	}
	key, err1 := hex.DecodeString(fields["key"])
	header, err2 := hex.DecodeString(fields["header"])
	sequence, err3 := strconv.ParseUint(fields["sequence"], 10, 64)
	if errors.Join(err1, err2, err3) != nil || len(key) != len(s.key) || len(header) != len(s.header) || sequence > keyrelease.MaxSequence {
		return nil, errors.New("is damaged")
	}
	s = seen{[32]byte(key), sequence, [32]byte(header)}
	switch other := fields["vm"]; {
	case bytes.Equal(b, seenFile(vm, &s)):
		return &s, nil
	case keyrelease.CheckName(other) == nil && bytes.Equal(b, seenFile(other, &s)):
		return nil, fmt.Errorf("is of VM %q", other)
	}
	return nil, errors.New("is damaged")
}
