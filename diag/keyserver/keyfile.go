package keyserver

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"keel/paravisor/keyrelease"
)

// keyFile returns the contents of a VM's file. The checksum tells a damaged key, with which
// a VM would find its state sealed with another one.
func keyFile(vm string, key []byte) []byte {
	b := fmt.Appendf(nil, "keel released key 1\nvm %s\nkey %x\n", vm, key)
	return fmt.Appendf(b, "sum %x\n", sha256.Sum256(b))
}

const maxKeyFile = 512 // bytes, also of a record of what was seen

// readFile reads a file of the folder. Errors are ErrKeyFile, but fs.ErrNotExist when
// there is none.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w; make it readable for the server", ErrKeyFile, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("%w: %w; restore it from a backup", ErrKeyFile, err)
	}
	return b, nil
}

// readKeyFile returns the key in a VM's file. Errors are those of readFile.
func readKeyFile(path, vm string) ([]byte, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	key, err := parseKeyFile(b, vm)
	if err != nil {
		return nil, fmt.Errorf("%w: %s %w; restore it from a backup, or move it away and give up the VM's state", ErrKeyFile, path, err)
	}
	return key, nil
}

// parseKeyFile is the inverse of keyFile, and takes nothing else.
func parseKeyFile(b []byte, vm string) ([]byte, error) {
	const label = "\nkey "
	i := bytes.Index(b, []byte(label))
	if i < 0 || len(b) < i+len(label)+2*keyrelease.KeySize {
		return nil, errors.New("is damaged")
	}
	key, err := hex.DecodeString(string(b[i+len(label):][:2*keyrelease.KeySize]))
	if err != nil {
		return nil, errors.New("is damaged")
	}
	if bytes.Equal(b, keyFile(vm, key)) {
		return key, nil
	}
	if _, other, ok := bytes.Cut(b[:i], []byte("\nvm ")); ok && keyrelease.CheckName(string(other)) == nil && bytes.Equal(b, keyFile(string(other), key)) {
		return nil, fmt.Errorf("is of VM %q", other)
	}
	return nil, errors.New("is damaged")
}
