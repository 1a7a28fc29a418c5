package deb

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// errStop ends a walk early without being an error.
var errStop = errors.New("stop")

// walk streams the package's data archive through dpkg-deb, which knows all of its
// compressions, and calls fn for each member with a clean relative name.
func walk(file string, fn func(h *tar.Header, r io.Reader) error) error {
	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrExtract, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: %w (apt package dpkg)", ErrExtract, err)
	}
	// The stream is read here and not by a helper, so that fn may stop it early.
	err = members(pipe, fn)
	if err != nil {
		// A closed pipe ends dpkg-deb and its children, which a signal would not
		// reach; how they complain about it is of no interest.
		_ = pipe.Close()
		_ = cmd.Wait()
		if errors.Is(err, errStop) {
			return nil
		}
		return fmt.Errorf("%w: %s: %w%s", ErrExtract, file, err, detail(&stderr))
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s: %w%s", ErrExtract, file, err, detail(&stderr))
	}
	return nil
}

// detail appends what the tool had to say.
func detail(stderr *bytes.Buffer) string {
	if text := strings.TrimSpace(stderr.String()); text != "" {
		return ": " + text
	}
	return ""
}

// members iterates a tar stream and drains what follows its end marker.
func members(r io.Reader, fn func(h *tar.Header, r io.Reader) error) error {
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		// Rooting the name before cleaning leaves no .. in it.
		h.Name = strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if err := fn(h, tr); err != nil {
			return err
		}
	}
}

// Member streams one regular file of the package, given as usr/src/x, to fn, which
// also learns its size in bytes.
func Member(file, name string, fn func(r io.Reader, size int64) error) error {
	found := false
	err := walk(file, func(h *tar.Header, r io.Reader) error {
		if h.Name != name || h.Typeflag != tar.TypeReg {
			return nil
		}
		found = true
		if err := fn(r, h.Size); err != nil {
			return err
		}
		return errStop // the rest of a large package need not be unpacked
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: %s has no file %s", ErrExtract, file, name)
	}
	return err
}

// File writes one regular file of the package to dst, atomically.
func File(file, name, dst string, mode fs.FileMode) error {
	return Member(file, name, func(r io.Reader, _ int64) error { return writeFile(dst, r, mode) })
}

// writeFile fills a temporary file beside dst and renames it, so that dst is never
// half written.
func writeFile(dst string, r io.Reader, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(dst), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already after a successful rename
	_, err = io.Copy(f, r)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), dst)
}
