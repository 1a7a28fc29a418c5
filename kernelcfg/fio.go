package kernelcfg

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"keel/kernelcfg/deb"
)

// fioRecipe stands for how fio is built. Raise it when that changes.
const fioRecipe = "1"

// GuestFio returns the path of a static fio in the user's cache. It is built from
// Debian's source when no build of the same source and compiler is there, which
// takes a minute. Its engines are those of the kernel alone: sync, psync, pvsync2,
// libaio, io_uring, sg and the like. Errors: ErrTools, ErrBuild, those of deb.
func GuestFio(ctx context.Context) (string, error) {
	cache, err := deb.Default()
	if err != nil {
		return "", err
	}
	chain, err := toolchain(ctx)
	if err != nil {
		return "", err
	}
	return takeFio(ctx, cache, fioSources, aioHeaders, chain)
}

// takeFio is GuestFio over a given cache.
func takeFio(ctx context.Context, cache *deb.Cache, sources, headers []deb.Pin, chain string) (string, error) {
	place := func(source, header deb.Pin) string {
		h := sha256.New()
		fmt.Fprintf(h, "%s\n%s\n%s\n%s\n", fioRecipe, source.SHA256, header.SHA256, chain)
		return filepath.Join(filepath.Dir(cache.Dir), "guest", "fio-"+hex.EncodeToString(h.Sum(nil))[:16], "fio")
	}
	// A build of the preferred source needs no network.
	if fio := place(sources[0], headers[0]); isFile(fio) {
		return fio, nil
	}
	source, sourcePin, err := cache.FirstAvailable(ctx, sources...)
	if err != nil {
		return "", err
	}
	header, headerPin, err := cache.FirstAvailable(ctx, headers...)
	if err != nil {
		return "", err
	}
	fio := place(sourcePin, headerPin)
	unlock, err := deb.Lock(filepath.Dir(fio)+".lock", cache.Progress)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrBuild, err)
	}
	defer unlock()
	if isFile(fio) { // perhaps built while waiting
		return fio, nil
	}
	work, err := os.MkdirTemp("", "keel-fio-")
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrBuild, err)
	}
	defer os.RemoveAll(work)
	fmt.Fprintf(cache.Progress, "keel: building %s; this takes a minute, once\n", sourcePin)
	if err := buildFio(ctx, source, header, work, fio); err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrBuild, sourcePin, err)
	}
	return fio, nil
}

func isFile(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.Mode().IsRegular()
}

// buildFio unpacks, configures, compiles and strips in the folder work.
func buildFio(ctx context.Context, source, header, work, out string) error {
	src, aio := filepath.Join(work, "src"), filepath.Join(work, "aio")
	if err := errors.Join(os.Mkdir(src, 0o755), os.Mkdir(aio, 0o755)); err != nil {
		return err
	}
	if err := runTool(ctx, work, nil, "tar", "-xzf", source, "-C", src, "--strip-components=1"); err != nil {
		return err
	}
	err := deb.Walk(header, func(h *tar.Header, r io.Reader) error {
		if base := path.Base(h.Name); h.Typeflag == tar.TypeReg && (base == "libaio.h" || base == "libaio.a") {
			return deb.WriteFile(filepath.Join(aio, base), r, 0o644)
		}
		return nil
	})
	if err != nil {
		return err
	}
	paths := []string{"C_INCLUDE_PATH=" + aio, "LIBRARY_PATH=" + aio} // gcc looks there
	for _, step := range [][]string{
		// native would make code for this machine's processor.
		{"./configure", "--build-static", "--disable-native"},
		{"make", fmt.Sprintf("-j%d", runtime.GOMAXPROCS(0)), "fio"},
		{"strip", "fio"},
	} {
		if err := runTool(ctx, src, paths, step[0], step[1:]...); err != nil {
			return err
		}
	}
	f, err := os.Open(filepath.Join(src, "fio"))
	if err != nil {
		return err
	}
	defer f.Close()
	return deb.WriteFile(out, f, 0o755)
}

// runTool runs a program to its end, with the variables env on top of those of a
// build; the error carries the end of its output.
func runTool(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(environment(), env...)
	// SIGTERM lets make end its own children; SIGKILL would orphan them.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("%s: %w\n%s", name, err, strings.Join(lines[max(0, len(lines)-tailLines):], "\n"))
	}
	return nil
}
