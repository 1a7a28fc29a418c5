// Package peerimage makes the images in which Keel's peers run: the VTL2 kernel with
// Debian's QEMU, or any other program, in place of the paravisor.
package peerimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

// Image is a bootable image and what it is made of.
type Image struct {
	PVH            []byte // what QEMU starts
	IGVMBytes      int64
	InitramfsBytes int64
	KernelBytes    int64
}

// Read takes the image of Keel itself.
func Read(path string) (Image, error) {
	igvm, err := os.ReadFile(path)
	if err != nil {
		return Image{}, err
	}
	pvh, err := boot.PVHFromIGVM(igvm)
	return Image{PVH: pvh, IGVMBytes: int64(len(igvm))}, err
}

// Options says what goes into a peer's image.
type Options struct {
	Root     string // the folder of the keel module
	Kernel   string // bzImage
	Cmdline  string // of that kernel
	Work     string // a folder for scratch files, which need not exist
	Programs []initramfs.Program
	Binaries []string          // of Debian, besides QEMU
	Files    map[string]string // further executable files: name in the image, without a leading slash → path on this machine
}

// Build makes an image: a VTL2 kernel and its command line as Keel's, with peerinit,
// QEMU, its libraries and its firmware in place of the paravisor. The same shim starts
// it, so that both VMs are the same up to the first process.
func Build(ctx context.Context, o Options) (Image, error) {
	init, err := initramfs.Build(ctx, initramfs.Options{
		Flavour: initramfs.Release, Root: o.Root,
		Programs: append([]initramfs.Program{{Package: "keel/tests/bench/peerinit", Path: "init"}}, o.Programs...),
	})
	if err != nil {
		return Image{}, err
	}
	files, err := debianFiles(ctx, append([]string{peer.QEMUPath}, o.Binaries...), o.Files)
	if err != nil {
		return Image{}, err
	}
	// The kernel unpacks archives one after the other.
	result, err := boot.Build(boot.Options{KernelPath: o.Kernel, Initramfs: append(init, files...), Cmdline: o.Cmdline, Out: o.Work})
	if err != nil {
		return Image{}, fmt.Errorf("building the peer: %w", err)
	}
	pvh, err := os.ReadFile(result.PVH)
	return Image{PVH: pvh, IGVMBytes: result.IGVMBytes, InitramfsBytes: result.InitramfsBytes, KernelBytes: result.KernelBytes}, err
}

// debianFiles returns an archive of binaries with all that they and QEMU need, and of
// further files.
func debianFiles(ctx context.Context, binaries []string, others map[string]string) ([]byte, error) {
	paths := slices.Clone(binaries)
	for _, binary := range binaries {
		out, err := exec.CommandContext(ctx, "ldd", binary).Output()
		if err != nil {
			return nil, fmt.Errorf("libraries of %s: %w", binary, err)
		}
		libraries, err := parseLDD(string(out))
		if err != nil {
			return nil, err
		}
		for _, path := range libraries {
			if !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
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
	for _, name := range slices.Sorted(maps.Keys(others)) {
		data, err := os.ReadFile(others[name])
		if err != nil {
			return nil, err
		}
		if err := writeFile(w, made, name, data); err != nil {
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
