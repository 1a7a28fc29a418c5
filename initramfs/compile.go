package initramfs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// buildFlags make a small binary without a trace of where and when it was built.
var buildFlags = []string{"-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid="}

// targetEnv is the environment of the Go tool for code that runs in a VM. It
// overrides what the user's settings could change in the bytes.
func targetEnv() []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1",
		"GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off")
}

// goTool runs the Go tool in dir and returns what it printed.
func goTool(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = targetEnv()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// compile builds the main package pkg of the module in root into a static binary.
func compile(ctx context.Context, root, pkg, out string) error {
	args := append([]string{"build", "-o", out}, buildFlags...)
	if _, err := goTool(ctx, root, append(args, pkg)...); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCompile, pkg, err)
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
