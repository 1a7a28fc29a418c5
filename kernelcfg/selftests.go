package kernelcfg

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"keel/kernelcfg/deb"
)

// selftests are the kernel's own tests of its TPM driver, within its source.
var selftests = []string{"tpm2.py", "tpm2_tests.py"}

const selftestsDir = "tools/testing/selftests/tpm2"

// python is Python with as much of its library as selftests import.
var python = toolKit{
	programs: []string{"dash", "python3.11"}, sets: pythonSets,
	folders: []string{
		pythonLibrary, pythonLibrary + "/collections", pythonLibrary + "/encodings", pythonLibrary + "/importlib",
		pythonLibrary + "/logging", pythonLibrary + "/re", pythonLibrary + "/unittest",
	},
}

const pythonLibrary = "usr/lib/python3.11"

// GuestTPMSelftests returns the kernel's tests of a TPM below selftests, of the pinned
// source, with a shell and the Python that they need as bin/python3.11, fetching them
// when needed. Errors: ErrGuest.
func GuestTPMSelftests(ctx context.Context) ([]GuestFile, error) {
	cache, err := deb.Default()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGuest, err)
	}
	files, err := takeTools(ctx, cache, python)
	if err != nil {
		return nil, fmt.Errorf("%w: Python: %w", ErrGuest, err)
	}
	dir, err := unpackSelftests(ctx, cache)
	if err != nil {
		return nil, fmt.Errorf("%w: TPM selftests: %w", ErrGuest, err)
	}
	for _, name := range selftests {
		files = append(files, GuestFile{Name: path.Join("selftests", name), Path: filepath.Join(dir, name)})
	}
	return files, nil
}

// unpackSelftests returns the folder with the tests in the user's cache. The archive has
// to be read from end to end for them, once.
func unpackSelftests(ctx context.Context, cache *deb.Cache) (string, error) {
	pkg, pin, err := cache.FirstAvailable(ctx, Sources...)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(cache.Dir), "guest", "selftests-"+pin.SHA256[:16])
	unlock, err := deb.Lock(dir+".lock", cache.Progress)
	if err != nil {
		return "", err
	}
	defer unlock()
	if isDir(dir) {
		return dir, nil
	}
	part := dir + ".part" // with the lock held, an existing one is a dead process's
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	if err := os.MkdirAll(part, 0o755); err != nil {
		return "", err
	}
	err = deb.Member(pkg, "usr/src/"+pin.Name+".tar.xz", func(r io.Reader, size int64) error {
		args := []string{"-xJ", "-C", part, "--strip-components=5"}
		for _, name := range selftests {
			args = append(args, path.Join(pin.Name, selftestsDir, name))
		}
		cmd := exec.CommandContext(ctx, "tar", args...)
		meter := deb.NewMeter(cache.Progress, "looking for TPM selftests in "+pin.String(), 0, size)
		cmd.Stdin = io.TeeReader(r, meter)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("tar: %w: %s", err, strings.TrimSpace(string(out)))
		}
		meter.Done()
		return nil
	})
	if err != nil {
		return "", err
	}
	return dir, os.Rename(part, dir) // only a complete folder gets its name
}
