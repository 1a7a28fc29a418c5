package initramfs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// buildFlags make a small binary without a trace of where and when it was built;
// linkC makes one static that has parts in C.
var (
	buildFlags = append([]string{"-trimpath", "-buildvcs=false", "-ldflags", stripped}, small()...)
	linkC      = []string{
		"-trimpath", "-buildvcs=false", "-tags", "netgo,osusergo",
		"-ldflags", stripped + ` -linkmode external -extldflags "-static -Wl,--build-id=none -Wl,--gc-sections"`,
	}
)

const stripped = "-s -w -buildid="

// cold are packages in which no exit of a guest and no request to its disks runs. The
// compiler inlines no function of theirs, which takes half a megabyte off the image.
var cold = []string{
	"crypto/x509/...", "encoding/asn1", "encoding/json", "fmt", "log/...", "math/big", "net/...", "reflect", "regexp/...",
	"runtime/pprof", "runtime/trace", "text/...", "vendor/...",
	"filippo.io/...", "github.com/...", "golang.org/x/crypto/...", "google.golang.org/...", "keel/diag/...",
}

// small returns the flags for that.
func small() []string {
	flags := make([]string, 0, len(cold))
	for _, p := range cold {
		flags = append(flags, "-gcflags="+p+"=-l")
	}
	return flags
}

// targetEnv is the environment of the Go tool for code that runs in a VM. It
// overrides what the user's settings could change in the bytes.
func targetEnv(c bool) []string {
	cgo := "CGO_ENABLED=0"
	if c {
		cgo = "CGO_ENABLED=1"
	}
	return append(os.Environ(), cgo, "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1",
		"GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off", "CC=gcc", "CGO_CFLAGS=-O2", "CGO_LDFLAGS=")
}

// goTool runs the Go tool in dir, for code without C, and returns what it printed.
func goTool(ctx context.Context, dir string, args ...string) (string, error) {
	return runGo(ctx, dir, targetEnv(false), args...)
}

func runGo(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// compile builds a program of the module in root into a static binary.
func compile(ctx context.Context, root string, p Program, out string) error {
	flags := buildFlags
	if p.C {
		flags = linkC
	}
	args := append([]string{"build", "-o", out}, flags...)
	if _, err := runGo(ctx, root, targetEnv(p.C), append(args, p.Package)...); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCompile, p.Package, err)
	}
	return nil
}

// CompileTest builds the test binary of package pkg as a static program, for
// guests whose /init it is. root is as in Options.
func CompileTest(ctx context.Context, root, pkg, out string) error {
	args := append([]string{"test", "-c", "-o", out}, buildFlags...)
	if _, err := goTool(ctx, root, append(args, pkg)...); err != nil {
		return fmt.Errorf("%w: test of %s: %w", ErrCompile, pkg, err)
	}
	return nil
}
