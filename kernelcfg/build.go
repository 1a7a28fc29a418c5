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

// Build returns the path of the flavour's bzImage in the user's cache: see BuildAll.
func Build(ctx context.Context, f Flavour) (string, error) {
	images, err := BuildAll(ctx, f)
	if err != nil {
		return "", err
	}
	return images[0], nil
}

// BuildAll returns the paths of the flavours' bzImages in the user's cache, building
// those of which no build of the same source, configuration, compiler and recipe is
// there: one after the other in one tree, so that they share what they have in common.
// The .config and System.map lie beside each as "config" and "System.map". A cold
// build takes minutes and reports on standard error; concurrent builders wait.
// Errors: ErrFlavour, ErrTools, ErrSource, ErrConfig, ErrBuild, those of deb.
func BuildAll(ctx context.Context, flavours ...Flavour) ([]string, error) {
	packages, err := deb.Default()
	if err != nil {
		return nil, err
	}
	b := &builder{
		packages: packages,
		dir:      filepath.Join(filepath.Dir(packages.Dir), "kernel"),
		sources:  Sources,
		progress: os.Stderr,
	}
	return b.build(ctx, flavours...)
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

// goal is a build that is asked for.
type goal struct {
	flavour Flavour
	asked   Config
	image   string // of a finished build
}

func (b *builder) build(ctx context.Context, flavours ...Flavour) ([]string, error) {
	// Fragments and compiler are part of the key, so they come before the cache.
	goals := make([]goal, len(flavours))
	for i, f := range flavours {
		asked, err := Fragment(f)
		if err != nil {
			return nil, err
		}
		goals[i] = goal{flavour: f, asked: asked}
	}
	chain, err := toolchain(ctx)
	if err != nil {
		return nil, err
	}
	// A build of the preferred source needs neither network nor source package.
	if images, ok := b.cached(goals, b.sources[0], chain); ok {
		return images, nil
	}
	unlock, err := deb.Lock(filepath.Join(b.dir, "lock"), b.progress)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	defer unlock()
	pkg, pin, err := b.packages.FirstAvailable(ctx, b.sources...)
	if err != nil {
		return nil, err
	}
	images, ok := b.cached(goals, pin, chain)
	if ok { // perhaps built while waiting
		return images, nil
	}
	src, err := source(ctx, b.dir, pkg, pin, b.progress)
	if err != nil {
		return nil, err
	}
	tree, err := b.tree()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tree) // several hundred MB
	for _, g := range goals {
		if g.image != "" {
			continue
		}
		if err := b.compile(ctx, g, src, tree, b.place(g.flavour, pin, g.asked, chain)); err != nil {
			return nil, err
		}
	}
	return images, nil
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

// cached looks for finished builds. It returns where the images are or will be, and
// whether all are there.
func (b *builder) cached(goals []goal, pin deb.Pin, chain string) (images []string, all bool) {
	all = true
	for i := range goals {
		g := &goals[i]
		image := filepath.Join(b.place(g.flavour, pin, g.asked, chain), "bzImage")
		images = append(images, image)
		if st, err := os.Stat(image); err == nil && st.Mode().IsRegular() {
			g.image = image
		} else {
			all = false
		}
	}
	return images, all
}

// tree makes a folder to build in. Precondition: the caller holds the build lock.
func (b *builder) tree() (string, error) {
	// With the lock held, any other build tree is what a killed build left behind.
	stale, _ := filepath.Glob(filepath.Join(b.dir, "build-*"))
	for _, path := range stale {
		if err := os.RemoveAll(path); err != nil {
			return "", fmt.Errorf("%w: %w", ErrBuild, err)
		}
	}
	tree, err := os.MkdirTemp(b.dir, "build-")
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrBuild, err)
	}
	return tree, nil
}

// compile configures, checks and builds in a tree, in which another flavour may have been
// built before, and moves the results to final in one step.
func (b *builder) compile(ctx context.Context, g goal, source, tree, final string) error {
	m := maker{source: source, tree: tree, what: "kernel " + string(g.flavour), progress: b.progress}
	// allnoconfig takes the request as its exceptions: what no fragment names is off.
	request := filepath.Join(tree, "request.config")
	if err := os.WriteFile(request, []byte(g.asked.String()), 0o644); err != nil {
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
	if err := Check(g.flavour, got); err != nil {
		return err
	}
	if err := m.run(ctx, "bzImage"); err != nil {
		return err
	}
	return collect(g.flavour, tree, final)
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
