// Package shim builds the boot shim: freestanding C and assembly in src, the
// first code of the image. It reads what the host says about the VM, checks it,
// and enters the Linux kernel. The package holds the sources and runs Debian's
// gcc; no binary is kept in the tree.
package shim

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"

	"keel/hcl/abi/x86"
)

// Errors of Build.
var (
	ErrCompiler = errors.New("cannot build the boot shim: gcc and ld are needed (apt-get install gcc)")
	ErrOutput   = errors.New("the boot shim was built wrong")
)

// Base is the address that the shim is linked at (src/shim.ld).
const Base x86.GPA = 0x101000

// maxBytes bounds the shim: it is about one page long.
const maxBytes = 4 * x86.PageSize

//go:embed src
var sources embed.FS

// flags are pinned, so that one compiler version gives one binary. The code
// runs without an IDT, so no SSE state, no red zone and no stack protector.
var flags = []string{
	"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdlib", "-static",
	"-fno-pic", "-no-pie", "-m64", "-march=x86-64", "-mno-red-zone", "-mgeneral-regs-only",
	"-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables",
	// gcc must not turn memset's loop into a call of memset.
	"-fno-tree-loop-distribute-patterns",
	"-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments", "-Wl,-T,shim.ld",
}

var units = []string{"entry.S", "main.c", "logic.c"}

// Binary is the linked shim.
type Binary struct {
	Code      []byte  // to be loaded at Base; zero-initialised data included
	IGVMEntry x86.GPA // 64-bit entry of IGVM loaders
	PVHEntry  x86.GPA // 32-bit entry of PVH loaders
}

// Build compiles the shim, or takes it from cacheDir where an earlier call with
// the same sources, flags and compiler left it. An empty cacheDir stands for
// the user's cache directory.
func Build(cacheDir string) (*Binary, error) {
	key, err := cacheKey()
	if err != nil {
		return nil, err
	}
	if cacheDir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCompiler, err)
		}
		cacheDir = filepath.Join(user, "keel", "shim")
	}
	cached := filepath.Join(cacheDir, key+".elf")
	if b, err := os.ReadFile(cached); err == nil {
		// A damaged cache file is built anew.
		if bin, err := parse(b); err == nil {
			return bin, nil
		}
	}
	b, err := compile()
	if err != nil {
		return nil, err
	}
	bin, err := parse(b)
	if err != nil {
		return nil, err
	}
	return bin, store(cached, b)
}

// store writes a file so that a concurrent reader sees all of it or nothing.
func store(path string, b []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, "shim-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails once renamed
	if _, err := tmp.Write(b); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// cacheKey names everything that decides the binary's bytes.
func cacheKey() (string, error) {
	h := sha256.New()
	// Another compiler may give other bytes, which is another image.
	for _, args := range [][]string{{"gcc", "--version"}, {"ld", "--version"}} {
		out, err := exec.Command(args[0], args[1:]...).Output()
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrCompiler, err)
		}
		h.Write(out)
	}
	fmt.Fprintln(h, flags, units)
	names, err := fs.Glob(sources, "src/*")
	if err != nil {
		return "", err
	}
	sort.Strings(names)
	for _, n := range names {
		b, err := sources.ReadFile(n)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, n, len(b))
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// unpack writes the sources to a directory for gcc, which then sees nothing but
// file names.
func unpack(dir string) error {
	return fs.WalkDir(sources, "src", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := sources.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, filepath.Base(path)), b, 0o600)
	})
}

// compile runs gcc in a scratch directory with relative names, so that no path
// gets into the binary.
func compile() ([]byte, error) {
	dir, err := os.MkdirTemp("", "keel-shim-")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCompiler, err)
	}
	defer os.RemoveAll(dir)
	if err := unpack(dir); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCompiler, err)
	}
	args := append(append([]string{}, flags...), "-o", "shim.elf")
	cmd := exec.Command("gcc", append(args, units...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "SOURCE_DATE_EPOCH=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %w: %s", ErrCompiler, err, bytes.TrimSpace(out))
	}
	return os.ReadFile(filepath.Join(dir, "shim.elf"))
}

// parse takes the one segment and the two entries out of the linked file.
func parse(b []byte) (*Binary, error) {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	if len(f.Progs) != 1 || f.Progs[0].Type != elf.PT_LOAD || x86.GPA(f.Progs[0].Paddr) != Base || f.Progs[0].Memsz > maxBytes {
		return nil, fmt.Errorf("%w: not one segment at %#x", ErrOutput, Base)
	}
	// The file holds no zeros for .bss; the image has to.
	bin := &Binary{Code: make([]byte, f.Progs[0].Memsz)}
	if _, err := io.ReadFull(f.Progs[0].Open(), bin.Code[:f.Progs[0].Filesz]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	for _, s := range symbols {
		switch s.Name {
		case "igvm_entry":
			bin.IGVMEntry = x86.GPA(s.Value)
		case "pvh_entry":
			bin.PVHEntry = x86.GPA(s.Value)
		}
	}
	if bin.IGVMEntry < Base || bin.PVHEntry < Base {
		return nil, fmt.Errorf("%w: entries missing", ErrOutput)
	}
	return bin, nil
}
