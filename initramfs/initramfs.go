// Package initramfs makes the file systems that kernels of Keel start with: the
// initramfs of the VTL2 kernel (release and debug) and the initrds of test guests.
//
// Archives are newc cpio (Linux Documentation/driver-api/early-userspace/buffer-format.rst)
// and are not compressed: a kernel unpacks them in milliseconds, where
// decompression under an emulated CPU costs seconds.
package initramfs

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"keel/boot/handoff"
	"keel/diag/owner"
)

// Flavour selects what goes into the initramfs of the VTL2 kernel.
type Flavour string

// The flavours.
const (
	Release Flavour = "release" // Keel's own programs and nothing else
	Debug   Flavour = "debug"   // plus u-root's core commands and shell
)

// Stages of a build, for errors.Is.
var (
	ErrFlavour = errors.New("unknown initramfs flavour")
	ErrCompile = errors.New("cannot compile a program of the initramfs")
	ErrCommand = errors.New("cannot build the commands of the debug initramfs")
	ErrArchive = errors.New("cannot write the initramfs")
)

// Program is a Go command and the place where the archive holds it.
type Program struct {
	Package string // import path of a main package
	Path    string // file in the archive, without leading slash
	C       bool   // parts of it are C: it is linked with Debian's static libraries
	Packed  bool   // with gzip, for whoever starts it to unpack: not every VM needs it
}

// Programs returns the programs of the VTL2 kernel's initramfs.
func Programs() []Program {
	return []Program{
		{Package: "keel/paravisor/cmd/paravisor", Path: "bin/paravisor"},
		{Package: "keel/vtpm/cmd/pvtpm", Path: "bin/pvtpm.gz", C: true, Packed: true},
	}
}

// Options say what to build.
type Options struct {
	Flavour  Flavour
	Programs []Program    // nil stands for Programs()
	Root     string       // folder of the keel module; empty stands for the working directory
	Out      string       // file to write as well; empty for none
	Owner    owner.Keys   // that the manifest names
	Cache    string       // folder for the debug commands; empty stands for one in the user's cache
	Log      *slog.Logger // progress; nil discards it
}

// Build returns the initramfs as a cpio archive. The same sources and the same
// Go release give the same bytes.
func Build(ctx context.Context, opts Options) ([]byte, error) {
	if opts.Flavour != Release && opts.Flavour != Debug {
		return nil, fmt.Errorf("%w: %q is neither %s nor %s", ErrFlavour, opts.Flavour, Release, Debug)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	programs := opts.Programs
	if programs == nil {
		programs = Programs()
	}
	work, err := os.MkdirTemp("", "keel-initramfs-")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCompile, err)
	}
	defer os.RemoveAll(work)

	var a archive
	a.system()
	var manifest strings.Builder
	for _, p := range programs {
		opts.Log.Info("compile", "package", p.Package)
		binary := filepath.Join(work, filepath.Base(p.Path))
		if err := compile(ctx, opts.Root, p, binary); err != nil {
			return nil, err
		}
		data, err := os.ReadFile(binary)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		if p.Packed {
			data = pack(data)
		}
		a.add(executable(p.Path, data))
		fmt.Fprintf(&manifest, "%x  %s\n", sha256.Sum256(data), p.Path)
	}
	manifest.WriteString(opts.Owner.Manifest())
	a.add(cpio.StaticFile(handoff.FileManifest, manifest.String(), 0o444))
	a.add(cpio.Symlink("init", "bin/paravisor")) // as PID 1 it is package pvinit
	if opts.Flavour == Debug {
		if err := a.commands(ctx, opts, work); err != nil {
			return nil, err
		}
	}
	data, err := a.bytes()
	if err != nil {
		return nil, err
	}
	opts.Log.Info("initramfs", "flavour", opts.Flavour, "bytes", len(data))
	if opts.Out != "" {
		if err := os.WriteFile(opts.Out, data, 0o644); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
	}
	return data, nil
}

// pack compresses a program.
func pack(data []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // a level that there is
	_, _ = w.Write(data)                                  // to memory: never fails
	_ = w.Close()
	return b.Bytes()
}

// system adds what every VTL2 userspace needs: mount points, and the two device
// nodes that exist before devtmpfs is mounted.
func (a *archive) system() {
	for _, dir := range []string{"bin", "dev", "proc", "sys", "tmp"} {
		a.add(cpio.Directory(dir, 0o755))
	}
	// The kernel opens the console for PID 1 before PID 1 can mount anything
	// (Linux init/main.c, console_on_rootfs).
	a.add(cpio.CharDev("dev/console", 0o600, 5, 1), cpio.CharDev("dev/null", 0o666, 1, 3))
}
