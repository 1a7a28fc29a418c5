package keyserver

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"keel/paravisor/keyrelease"
)

const (
	keySuffix   = ".key"
	seenSuffix  = ".seen"
	allowSuffix = ".allow"
	newPrefix   = ".new-" // no VM's name begins with a dot
	privateDir  = 0o700
)

// store keeps a file for each VM with its key, which is never written again, and one with
// what was seen of its state. A file has its whole content or is not there.
type store struct {
	path   string
	folder *os.File // locked for as long as it is open

	mu sync.Mutex
}

// openStore opens the folder of keys for a server. Its errors are ErrKeys.
func openStore(path string) (*store, error) {
	s, err := openFolder(path)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(); err != nil {
		_ = s.folder.Close() // the error to report is the first one
		return nil, err
	}
	return s, nil
}

// openFolder opens the folder of keys. Its errors are ErrKeys.
func openFolder(path string) (*store, error) {
	bad := func(err error, remedy string) (*store, error) {
		return nil, fmt.Errorf("%w: %w; %s", ErrKeys, err, remedy)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist): // made anew, all VMs would get other keys than before
		return bad(err, "name the folder that has the keys, or make an empty one with \"mkdir -m 700\"")
	case err != nil:
		return bad(err, "name a folder that can be read")
	case !info.IsDir():
		return bad(fmt.Errorf("%s is no folder", path), "name a folder")
	case info.Mode().Perm()&^privateDir != 0:
		return bad(fmt.Errorf("%s has mode %#o", path, info.Mode().Perm()), "let its owner alone in (chmod 700)")
	}
	folder, err := os.Open(path)
	if err != nil {
		return bad(err, "name a folder that can be read")
	}
	return &store{path: path, folder: folder}, nil
}

// prepare takes the folder for this server, and removes what a server that was killed has
// left: keys that no VM ever got.
func (s *store) prepare() error {
	if err := syscall.Flock(int(s.folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("%w: %s is in use: %w; end the other key server first", ErrKeys, s.path, err)
	}
	names, err := s.folder.Readdirnames(-1)
	for _, name := range names {
		if err == nil && strings.HasPrefix(name, newPrefix) {
			err = os.Remove(filepath.Join(s.path, name))
		}
	}
	if err == nil { // that keys survive a power failure must be true of those, too, that are there
		err = s.folder.Sync()
	}
	if err != nil {
		return fmt.Errorf("%w: %w; see that it can be read and written", ErrKeys, err)
	}
	return nil
}

func (s *store) close() error { return s.folder.Close() }

// key returns the key of a VM, and makes it when there is none. Its errors are ErrKeyFile,
// and ErrKeys when a new key cannot be kept.
//
// Preconditions: keyrelease.CheckName takes the name.
func (s *store) key(vm string) (key []byte, made bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := s.file(vm, keySuffix)
	key, err = readKeyFile(path, vm)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	key = make([]byte, keyrelease.KeySize)
	_, _ = rand.Read(key) // never fails
	if err := s.write(path, keyFile(vm, key)); err != nil {
		return nil, false, fmt.Errorf("%w: cannot keep a new key: %w; see that the folder can be written and has space left", ErrKeys, err)
	}
	return key, true, nil
}

// write makes a file durable that does not exist yet. Linking fails where there is one,
// which renaming would replace.
func (s *store) write(path string, content []byte) error {
	return s.place(content, func(temporary string) error { return os.Link(temporary, path) })
}

// replace makes a file durable in the place of one that may exist.
func (s *store) replace(path string, content []byte) error {
	return s.place(content, func(temporary string) error { return os.Rename(temporary, path) })
}

// place writes a file that put then gives its name.
func (s *store) place(content []byte, put func(temporary string) error) error {
	f, err := os.CreateTemp(s.path, newPrefix) // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = put(f.Name())
	}
	if gone := os.Remove(f.Name()); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	if err == nil {
		err = s.folder.Sync()
	}
	return err
}
