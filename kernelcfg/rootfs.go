package kernelcfg

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"keel/kernelcfg/deb"
)

// ErrRootFS says that the Debian root file system could not be made.
var ErrRootFS = errors.New("kernelcfg: root file system")

// rootfsRelease is the release of Debian that RootFS installs.
const rootfsRelease = "bookworm"

// rootfsPackages come on top of the required packages and apt. Recommended ones are
// left out.
var rootfsPackages = []string{"systemd-sysv", "udev", "e2fsprogs"}

// rootfsHook is what mmdebstrap's shell runs with the new root's folder as $1, before
// it packs that. It is handed over as text: in a user namespace it could not read
// the caller's files.
//
//go:embed rootfs.sh
var rootfsHook string

// rootfsSize is the size of the file system, in bytes; most of it is a hole in the
// image.
const rootfsSize = 600 << 20

// rootfsRecipe stands for what shapes the image beside packages and hook. Raise it
// when that changes.
const rootfsRecipe = "1"

// RootFS returns the path of an image in the user's cache: an ext4 file system,
// without partitions, that holds a small Debian with systemd and udev and without a
// kernel. root may log in on ttyS0 without a password. Callers boot copies of it.
// A cold call installs the packages with mmdebstrap, which takes minutes; neither
// root nor a loop device is needed. Errors: ErrRootFS, those of deb.
func RootFS(ctx context.Context) (string, error) {
	cache, err := deb.Default()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %s %d %q\n%s", rootfsRecipe, rootfsRelease, rootfsSize, rootfsPackages, rootfsHook)
	image := filepath.Join(filepath.Dir(cache.Dir), "guest", "rootfs-"+hex.EncodeToString(h.Sum(nil))[:16]+".ext4")
	if isFile(image) {
		return image, nil
	}
	unlock, err := deb.Lock(image+".lock", cache.Progress)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrRootFS, err)
	}
	defer unlock()
	if isFile(image) {
		return image, nil
	}
	// Beside the result: a rename must do, and /tmp may be small.
	work, err := os.MkdirTemp(filepath.Dir(image), "rootfs-work-")
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrRootFS, err)
	}
	defer os.RemoveAll(work)
	if err := makeRootFS(ctx, cache, work, image); err != nil {
		return "", fmt.Errorf("%w: %w", ErrRootFS, err)
	}
	return image, nil
}

// makeRootFS installs into a tar archive and makes a file system of that.
func makeRootFS(ctx context.Context, cache *deb.Cache, work, image string) error {
	mirrors, err := deb.Mirrors(cache.Root)
	if err != nil {
		return err
	}
	packed, fresh := filepath.Join(work, "root.tar"), filepath.Join(work, "image")
	if mmdebstrap, err := exec.LookPath("mmdebstrap"); err != nil {
		return fmt.Errorf("%w (apt package mmdebstrap)", err)
	} else if err := runInstaller(ctx, cache, mmdebstrap, rootfsArgs(mirrors, packed)); err != nil {
		return err
	}
	f, err := os.Open(packed)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := tarToExt4(ctx, f, work, fresh, rootfsSize); err != nil {
		return err
	}
	return os.Rename(fresh, image)
}

// keyring is what Debian's archives are signed with, on every Debian.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// rootfsArgs are mmdebstrap's arguments.
func rootfsArgs(mirrors []deb.Mirror, out string) []string {
	args := []string{
		"--variant=minbase", "--format=tar", "--include=" + strings.Join(rootfsPackages, ","),
		"--customize-hook=" + rootfsHook,
	}
	// What nobody reads on a serial console costs seconds of emulated disk.
	for _, path := range []string{"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"} {
		args = append(args, "--dpkgopt=path-exclude="+path)
	}
	for _, scheme := range []string{"http", "https"} {
		if u := deb.Proxy(scheme); u != nil {
			args = append(args, fmt.Sprintf("--aptopt=Acquire::%s::Proxy %q", scheme, u))
		}
	}
	args = append(args, rootfsRelease, out)
	for _, m := range mirrors {
		suite := rootfsRelease
		if m.Security {
			suite += "-security"
		}
		args = append(args, fmt.Sprintf("deb [signed-by=%s] %s %s main", keyring, m.URI, suite))
	}
	return args
}

// runInstaller runs mmdebstrap and reports its steps.
func runInstaller(ctx context.Context, cache *deb.Cache, mmdebstrap string, args []string) error {
	fmt.Fprintf(cache.Progress, "keel: installing a root file system of %s; this takes minutes, once\n", rootfsRelease)
	started := time.Now()
	cmd := exec.CommandContext(ctx, mmdebstrap, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it unmounts and removes
	cmd.WaitDelay = time.Minute
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		return fmt.Errorf("mmdebstrap: %w\n%s", err, strings.Join(lines[max(0, len(lines)-tailLines):], "\n"))
	}
	fmt.Fprintf(cache.Progress, "keel: root file system installed in %s\n", time.Since(started).Round(time.Second))
	return nil
}
