package kernelcfg

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"keel/kernelcfg/deb"
)

// ErrSource says that the kernel source cannot be unpacked.
var ErrSource = errors.New("kernelcfg: kernel source")

// unneeded are parts of the tree that no flavour compiles: two thirds of 1.8 GB.
// Their Kconfig and Makefile files stay, for others include them. A file that is
// missed after all stops the build; it cannot change its result.
var unneeded = []string{
	"*/drivers/gpu/*.[chS]", "*/drivers/media/*.[ch]", "*/drivers/net/*/*.[ch]", "*/sound/*.[ch]",
	"*/Documentation/*.rst", "*/Documentation/*.yaml", "*/tools/testing/*", "*/tools/perf/*",
	"*/arch/*/*.dts", "*/arch/*/*.dtsi",
	"linux-source-*/arch/arm/*.[chS]", "linux-source-*/arch/arm64/*.[chS]", "linux-source-*/arch/mips/*.[chS]",
	"linux-source-*/arch/powerpc/*.[chS]", "linux-source-*/arch/riscv/*.[chS]", "linux-source-*/arch/s390/*.[chS]",
}

// source returns the unpacked tree of a fetched package, unpacking it once. Trees
// of other pins are removed: each takes more than half a gigabyte.
// Preconditions: the caller holds the build lock.
func source(ctx context.Context, dir, pkg string, pin deb.Pin, progress io.Writer) (string, error) {
	// What is left out is part of the name: a changed list unpacks anew.
	sum := sha256.Sum256([]byte(pin.SHA256 + strings.Join(unneeded, " ")))
	tree := filepath.Join(dir, "source-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(filepath.Join(tree, "Makefile")); err == nil {
		return tree, nil
	}
	old, _ := filepath.Glob(filepath.Join(dir, "source-*"))
	for _, path := range old {
		if err := os.RemoveAll(path); err != nil {
			return "", fmt.Errorf("%w: %w", ErrSource, err)
		}
	}
	// The glob above also matched what an interrupted run left of this.
	part := tree + ".part"
	if err := os.MkdirAll(part, 0o755); err != nil {
		return "", fmt.Errorf("%w: %w", ErrSource, err)
	}
	member := "usr/src/" + pin.Name + ".tar.xz"
	err := deb.Member(pkg, member, func(r io.Reader, size int64) error {
		// There is no xz in the Go library, and it knows exclusions.
		args := []string{"-xJ", "-C", part, "--strip-components=1"}
		for _, pattern := range unneeded {
			args = append(args, "--exclude="+pattern)
		}
		cmd := exec.CommandContext(ctx, "tar", args...)
		meter := deb.NewMeter(progress, "unpacking "+pin.String(), 0, size)
		cmd.Stdin = io.TeeReader(r, meter)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("tar: %w: %s", err, strings.TrimSpace(string(out)))
		}
		meter.Done()
		return nil
	})
	if err == nil {
		err = os.Rename(part, tree) // only a complete tree gets its name
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("%w: %w", ErrSource, err), os.RemoveAll(part))
	}
	return tree, nil
}
