// Package harness runs the command line tool in tests: it builds what they need
// from the checkout, starts runs, and judges how they end and what they leave
// behind.
package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Variables that name images to use in place of new ones.
const (
	envImage = "KEEL_IMAGE"
	envDebug = "KEEL_IMAGE_DEBUG"
)

// Tool is the command line tool with the images that it runs.
type Tool struct {
	Path  string // the tool
	Image string // release image

	root, dir string
	debug     func() (string, error)
}

// Build makes the tool and the release image from the checkout at root, into
// dir. The environment may name images that exist.
func Build(ctx context.Context, root, dir string) (*Tool, error) {
	t := &Tool{Path: filepath.Join(dir, "keel"), root: root, dir: dir}
	err := t.command(ctx, "go", "build", "-o", t.Path, ".")
	if err == nil {
		t.Image, err = t.image(ctx, envImage, "release")
	}
	t.debug = sync.OnceValues(func() (string, error) { return t.image(ctx, envDebug, "debug", "--debug") })
	return t, err
}

// Debug returns the debug image. It is made for the first test that wants it: few
// do.
func (t *Tool) Debug(tb testing.TB) string {
	tb.Helper()
	image, err := t.debug()
	if err != nil {
		tb.Fatal(err)
	}
	return image
}

// Make makes a release image for one test, with more flags of keel image build.
func (t *Tool) Make(tb testing.TB, flags ...string) string {
	tb.Helper()
	folder := tb.TempDir()
	if err := t.command(tb.Context(), t.Path, append([]string{"image", "build", "--out", folder}, flags...)...); err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(folder, "keel.igvm")
}

// image returns the image that a variable names, or makes one in a folder.
func (t *Tool) image(ctx context.Context, variable, folder string, flags ...string) (string, error) {
	if image := os.Getenv(variable); image != "" {
		return image, nil
	}
	folder = filepath.Join(t.dir, folder)
	args := append([]string{"image", "build", "--out", folder}, flags...)
	return filepath.Join(folder, "keel.igvm"), t.command(ctx, t.Path, args...)
}

func (t *Tool) command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stderr = t.root, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %v: %w", name, args, err)
	}
	return nil
}
