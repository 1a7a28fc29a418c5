package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"keel/boot"
	"keel/initramfs"
	"keel/tests/bench/peer"
)

// firmware lists what nested QEMU loads at a start with -kernel, by the names
// under which it looks for them below dataDir.
var firmware = []string{"qboot.rom", "kvmvapic.bin", "linuxboot_dma.bin", "linuxboot.bin"}

const dataDir = "/usr/share/qemu"

// image is a bootable image and what it is made of. Sizes are in bytes.
type image struct {
	pvh            []byte
	igvmBytes      int64
	initramfsBytes int64
	kernelBytes    int64
}

// buildPeer makes the peer's image: the same VTL2 kernel and command line as
// Keel's, with QEMU, its libraries and its firmware in place of the paravisor. The
// same shim starts it, so that both VMs are the same up to the first process.
func buildPeer(ctx context.Context, root, kernel, cmdline, work string) (image, error) {
	init, err := initramfs.Build(ctx, initramfs.Options{
		Flavour: initramfs.Release, Root: root,
		Programs: []initramfs.Program{{Package: "keel/tests/bench/peerinit", Path: "init"}},
	})
	if err != nil {
		return image{}, err
	}
	files, err := qemuFiles(ctx, peer.QEMUPath)
	if err != nil {
		return image{}, err
	}
	// The kernel unpacks archives one after the other.
	result, err := boot.Build(boot.Options{KernelPath: kernel, Initramfs: append(init, files...), Cmdline: cmdline, Out: work})
	if err != nil {
		return image{}, fmt.Errorf("building the peer: %w", err)
	}
	pvh, err := os.ReadFile(result.PVH)
	return image{pvh: pvh, igvmBytes: result.IGVMBytes, initramfsBytes: result.InitramfsBytes, kernelBytes: result.KernelBytes}, err
}

// qemuFiles returns an archive of a QEMU binary with all that it needs.
func qemuFiles(ctx context.Context, qemu string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, "ldd", qemu).Output()
	if err != nil {
		return nil, fmt.Errorf("libraries of %s: %w", qemu, err)
	}
	libraries, err := parseLDD(string(out))
	if err != nil {
		return nil, err
	}
	paths := append([]string{qemu}, libraries...)
	for _, name := range firmware {
		paths = append(paths, filepath.Join(dataDir, name))
	}
	var archive bytes.Buffer
	w := cpio.Newc.Writer(&archive)
	made := map[string]bool{".": true}
	for _, path := range paths {
		data, err := os.ReadFile(path) // follows links: the archive holds plain files
		if err != nil {
			return nil, err
		}
		if err := writeFile(w, made, strings.TrimPrefix(path, "/"), data); err != nil {
			return nil, err
		}
	}
	return archive.Bytes(), cpio.WriteTrailer(w)
}

// writeFile adds an executable file and the folders above it.
func writeFile(w cpio.RecordWriter, made map[string]bool, name string, data []byte) error {
	var missing []string
	for dir := filepath.Dir(name); !made[dir]; dir = filepath.Dir(dir) {
		made[dir] = true
		missing = append(missing, dir)
	}
	for i := range missing {
		if err := w.WriteRecord(cpio.Directory(missing[len(missing)-1-i], 0o755)); err != nil {
			return err
		}
	}
	return w.WriteRecord(cpio.StaticRecord(data, cpio.Info{Name: name, Mode: cpio.S_IFREG | 0o755}))
}

// library matches a line of ldd: "name => path (address)", or the loader's path
// alone. The vDSO has no path.
var library = regexp.MustCompile(`(?:^\S+ => )?(\S+) \(0x[0-9a-f]+\)$`)

var errLDD = errors.New("cannot use what ldd says")

// parseLDD returns the paths of all libraries.
func parseLDD(out string) ([]string, error) {
	var paths []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		m := library.FindStringSubmatch(line)
		switch {
		case line == "" || strings.HasPrefix(line, "linux-vdso."):
		case m == nil || !strings.HasPrefix(m[1], "/"):
			return nil, fmt.Errorf("%w: %q", errLDD, line)
		default:
			paths = append(paths, m[1])
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%w: no library", errLDD)
	}
	return paths, nil
}
