package kernelcfg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// ErrTools says that the machine lacks something that the kernel build needs.
var ErrTools = errors.New("kernelcfg: missing build tools")

// tools maps each program that the build runs to the Debian package that has it.
var tools = []struct{ program, apt string }{
	{"make", "make"},
	{"gcc", "gcc"},
	{"ld", "binutils"},
	{"flex", "flex"},
	{"bison", "bison"},
	{"bc", "bc"},
	{"zstd", "zstd"},
	{"xz", "xz-utils"},
	{"tar", "tar"},
	{"awk", "mawk"},
	{"perl", "perl"},
	{"dpkg-deb", "dpkg"},
}

// headers are C headers that the kernel's own build programs include.
var headers = []struct{ header, apt string }{
	{"stdlib.h", "libc6-dev"},
	{"libelf.h", "libelf-dev"}, // objtool
}

// AptPackages lists the Debian packages that a kernel build needs.
func AptPackages() []string {
	var out []string
	for _, t := range tools {
		out = append(out, t.apt)
	}
	for _, h := range headers {
		out = append(out, h.apt)
	}
	return out
}

// toolchain checks that everything is there and returns a line that identifies
// compiler and linker, for the cache key. The error is ErrTools and says what to
// install.
func toolchain(ctx context.Context) (string, error) {
	return toolchainWith(ctx, exec.LookPath)
}

// toolchainWith is toolchain over a given way to find programs.
func toolchainWith(ctx context.Context, look func(string) (string, error)) (string, error) {
	var missing []string
	found := map[string]bool{}
	for _, t := range tools {
		if _, err := look(t.program); err != nil {
			missing = append(missing, t.apt)
			continue
		}
		found[t.program] = true
	}
	// Without a compiler the headers cannot be looked for; it is reported already.
	if found["gcc"] {
		for _, h := range headers {
			cmd := exec.CommandContext(ctx, "gcc", "-E", "-include", h.header, "-x", "c", os.DevNull)
			if cmd.Run() != nil {
				missing = append(missing, h.apt)
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("%w: run: apt-get install %s", ErrTools, strings.Join(missing, " "))
	}
	// Debian's first line carries the package revision: any update builds anew.
	var lines []string
	for _, program := range []string{"gcc", "ld"} {
		out, err := exec.CommandContext(ctx, program, "--version").Output()
		if err != nil {
			return "", fmt.Errorf("%w: %s --version: %w", ErrTools, program, err)
		}
		first, _, _ := strings.Cut(string(out), "\n")
		lines = append(lines, first)
	}
	return strings.Join(lines, "; "), nil
}
