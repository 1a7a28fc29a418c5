package kernelcfg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"keel/kernelcfg/deb"
)

// ErrGuest says that a guest kernel or tool is unknown or cannot be had.
var ErrGuest = errors.New("kernelcfg: guest files")

// GuestKernel returns the path of a stock Debian cloud kernel (vmlinuz) in the
// user's cache, fetching it when needed. Names are those of GuestKernels.
func GuestKernel(ctx context.Context, name string) (string, error) {
	pins, ok := guests[name]
	if !ok {
		return "", fmt.Errorf("%w: no kernel %q; there are %s", ErrGuest, name, strings.Join(GuestKernels(), ", "))
	}
	return guestFile(ctx, pins, vmlinuz, 0o644)
}

// GuestKernels lists the names that GuestKernel knows.
func GuestKernels() []string { return slices.Sorted(maps.Keys(guests)) }

// Busybox returns the path of a statically linked busybox in the user's cache.
func Busybox(ctx context.Context) (string, error) {
	return guestFile(ctx, busyboxes, func(deb.Pin) string { return "bin/busybox" }, 0o755)
}

// vmlinuz names the kernel inside its package.
func vmlinuz(p deb.Pin) string {
	release := strings.TrimSuffix(strings.TrimPrefix(p.Name, "linux-image-"), "-unsigned")
	return "boot/vmlinuz-" + release
}

// guestFile fetches the first package available and keeps one file of it beside.
func guestFile(ctx context.Context, pins []deb.Pin, member func(deb.Pin) string, mode fs.FileMode) (string, error) {
	cache, err := deb.Default()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrGuest, err)
	}
	return takeFile(ctx, cache, pins, member, mode)
}

// takeFile is guestFile over a given cache. The file's folder is named after its
// package's checksum, so a changed pin never meets an old file.
func takeFile(ctx context.Context, cache *deb.Cache, pins []deb.Pin, member func(deb.Pin) string, mode fs.FileMode) (string, error) {
	guestDir := filepath.Join(filepath.Dir(cache.Dir), "guest")
	file := func(p deb.Pin) string {
		return filepath.Join(guestDir, p.SHA256[:16], filepath.Base(member(p)))
	}
	// Once taken out, the package itself is not needed again.
	if _, err := os.Stat(file(pins[0])); err == nil {
		return file(pins[0]), nil
	}
	// Which pin the mirror still has decides; a fallback may be there already.
	pkg, pin, err := cache.FirstAvailable(ctx, pins...)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrGuest, err)
	}
	path := file(pin)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := deb.File(pkg, member(pin), path, mode); err != nil {
		return "", fmt.Errorf("%w: %w", ErrGuest, err)
	}
	return path, nil
}
