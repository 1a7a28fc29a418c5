package kernelcfg

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"keel/kernelcfg/deb"
)

// ErrBuild says that the kernel could not be built, or came out too large.
var ErrBuild = errors.New("kernelcfg: kernel build")

// MaxImage bounds the release bzImage, in bytes (DESIGN's image budget).
const MaxImage = 4 << 20

// recipe stands for everything in this package that shapes the result and is not
// hashed by itself: make's arguments and environment. Raise it when they change.
const recipe = "1"

// builder carries what Build needs; tests replace its parts.
type builder struct {
	packages *deb.Cache
	dir      string // the build cache
	sources  []deb.Pin
	progress io.Writer
}

// Build returns the path of the flavour's bzImage in the user's cache, building it
// when no build of the same source, configuration, compiler and recipe is there.
// The .config and System.map lie beside it as "config" and "System.map". A cold
// build takes minutes and reports on standard error; concurrent builders wait.
// Errors: ErrFlavour, ErrTools, ErrSource, ErrConfig, ErrBuild, those of deb.
func Build(ctx context.Context, f Flavour) (string, error) {
	b, err := newBuilder()
	if err != nil {
		return "", err
	}
	return b.build(ctx, f, whole)
}

// Try configures a flavour and compiles what no other flavour has, which takes a tenth
// of the time of Build. It returns what it leaves in the user's cache, so that the next
// call compiles nothing, or the bzImage of a Build. Errors: those of Build; ErrFlavour,
// too, for a flavour that has nothing of its own.
func Try(ctx context.Context, f Flavour) (string, error) {
	if ownFolders[f] == nil {
		return "", fmt.Errorf("%w to try %q: build it", ErrFlavour, f)
	}
	b, err := newBuilder()
	if err != nil {
		return "", err
	}
	return b.build(ctx, f, own)
}

func newBuilder() (*builder, error) {
	packages, err := deb.Default()
	if err != nil {
		return nil, err
	}
	return &builder{
		packages: packages,
		dir:      filepath.Join(filepath.Dir(packages.Dir), "kernel"),
		sources:  Sources,
		progress: os.Stderr,
	}, nil
}

// Fetch gets the kernel source package into the cache, so that a later Build needs
// no network.
func Fetch(ctx context.Context) (string, error) {
	packages, err := deb.Default()
	if err != nil {
		return "", err
	}
	path, _, err := packages.FirstAvailable(ctx, Sources...)
	return path, err
}

// extent says how much of a kernel is compiled.
type extent bool

const (
	whole extent = false
	own   extent = true // what no other flavour has
)

// build returns the path of a finished build, which it makes where there is none.
func (b *builder) build(ctx context.Context, f Flavour, e extent) (string, error) {
	// Fragments and compiler are part of the key, so they come before the cache.
	asked, err := Fragment(f)
	if err != nil {
		return "", err
	}
	chain, err := toolchain(ctx)
	if err != nil {
		return "", err
	}
	// A build of the preferred source needs neither network nor source package.
	if image, ok := b.cached(b.place(f, b.sources[0], asked, chain), e); ok {
		return image, nil
	}
	unlock, err := deb.Lock(filepath.Join(b.dir, "lock"), b.progress)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrBuild, err)
	}
	defer unlock()
	pkg, pin, err := b.packages.FirstAvailable(ctx, b.sources...)
	if err != nil {
		return "", err
	}
	final := b.place(f, pin, asked, chain)
	if image, ok := b.cached(final, e); ok { // perhaps built while waiting
		return image, nil
	}
	tree, err := source(ctx, b.dir, pkg, pin, b.progress)
	if err != nil {
		return "", err
	}
	if err := b.compile(ctx, f, tree, asked, final, e); err != nil {
		return "", err
	}
	image, _ := b.cached(final, e)
	return image, nil
}

// place names the folder of one build after a hash of all that goes into it.
func (b *builder) place(f Flavour, pin deb.Pin, asked Config, chain string) string {
	h := sha256.New()
	for _, part := range []string{recipe, pin.SHA256, chain, asked.String()} {
		// The length keeps neighbouring parts from running into each other.
		fmt.Fprintf(h, "%d %s\n", len(part), part)
	}
	return filepath.Join(b.dir, string(f)+"-"+hex.EncodeToString(h.Sum(nil))[:16])
}

// cached looks for a finished build in its folder.
func (b *builder) cached(final string, e extent) (string, bool) {
	image := filepath.Join(final, "bzImage")
	if st, err := os.Stat(image); err == nil && st.Mode().IsRegular() {
		return image, true
	}
	if e == own {
		tried := filepath.Join(final, "tried")
		_, err := os.Stat(tried)
		return tried, err == nil
	}
	return "", false
}

// compile configures, checks and builds in a tree of its own, and moves the results
// to final in one step. Precondition: the caller holds the build lock.
func (b *builder) compile(ctx context.Context, f Flavour, source string, asked Config, final string, e extent) error {
	// With the lock held, any other build tree is what a killed build left behind.
	stale, _ := filepath.Glob(filepath.Join(b.dir, "build-*"))
	for _, path := range stale {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("%w: %w", ErrBuild, err)
		}
	}
	tree, err := os.MkdirTemp(b.dir, "build-")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBuild, err)
	}
	defer os.RemoveAll(tree) // several hundred MB

	m := maker{source: source, tree: tree, what: "kernel " + string(f), progress: b.progress}
	// allnoconfig takes the request as its exceptions: what no fragment names is off.
	request := filepath.Join(tree, "request.config")
	if err := os.WriteFile(request, []byte(asked.String()), 0o644); err != nil {
		return fmt.Errorf("%w: %w", ErrBuild, err)
	}
	if err := m.run(ctx, "KCONFIG_ALLCONFIG="+request, "allnoconfig"); err != nil {
		return err
	}
	got, err := readConfig(filepath.Join(tree, ".config"))
	if err != nil {
		return err
	}
	// Before minutes of compiling, not after.
	if err := Check(f, got); err != nil {
		return err
	}
	if e == own {
		if err := m.run(ctx, ownFolders[f]...); err != nil {
			return err
		}
		return errors.Join(os.MkdirAll(final, 0o755), os.WriteFile(filepath.Join(final, "tried"), nil, 0o644))
	}
	if err := m.run(ctx, "bzImage"); err != nil {
		return err
	}
	return collect(f, tree, final)
}

// collect copies what is kept into a folder beside final and renames that.
func collect(f Flavour, tree, final string) error {
	image := filepath.Join(tree, "arch/x86/boot/bzImage")
	st, err := os.Stat(image)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBuild, err)
	}
	if f == Release && st.Size() > MaxImage {
		return fmt.Errorf("%w: bzImage has %d bytes, more than %d: take something out of the fragments", ErrBuild, st.Size(), MaxImage)
	}
	// The build tree is on the same file system, so a rename is enough.
	kept := filepath.Join(tree, "kept")
	err = os.Mkdir(kept, 0o755)
	for _, file := range []struct{ from, to string }{
		{image, "bzImage"},
		{filepath.Join(tree, ".config"), "config"},
		{filepath.Join(tree, "System.map"), "System.map"},
	} {
		err = errors.Join(err, os.Rename(file.from, filepath.Join(kept, file.to)))
	}
	if err == nil {
		err = errors.Join(os.RemoveAll(final), os.Rename(kept, final))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBuild, err)
	}
	return nil
}

// readConfig parses a .config on disk.
func readConfig(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	defer f.Close()
	return ParseConfig(f)
}
