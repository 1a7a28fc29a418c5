// Package boot makes and reads Keel's images: it composes shim, VTL2 kernel and
// initramfs into one IGVM file, checks such files, and derives from one the PVH
// ELF that hosts without an IGVM loader can start. It measures images as hardware
// would, signs them, and compares evidence with them.
package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"keel/boot/handoff"
	"keel/boot/igvm"
	"keel/boot/layout"
	"keel/boot/measure"
	"keel/boot/shim"
)

// Names of the files that Build writes.
const (
	IGVMName = "keel.igvm"
	PVHName  = "keel.elf"
)

// maxImageBytes bounds what Open reads: far above the budget of 16 MiB, far
// below what would hurt.
const maxImageBytes = 1 << 30

// Options say what goes into an image.
type Options struct {
	Kernel        []byte // VTL2 kernel, a bzImage; when nil it is read from KernelPath
	KernelPath    string
	Initramfs     []byte // initramfs archive; when nil it is read from InitramfsPath
	InitramfsPath string
	Cmdline       string // measured command line of the VTL2 kernel
	Debug         bool   // debug image: the host's command line is appended to the measured one
	Out           string // directory that receives IGVMName and PVHName; created when missing
	CacheDir      string // where the built shim is kept; "" for the user's cache directory
}

// Result says what Build wrote. Sizes are in bytes.
type Result struct {
	IGVM           string   `json:"igvm"` // path of the IGVM file: the artifact
	PVH            string   `json:"pvh"`  // path of the PVH ELF made from it
	IGVMBytes      int64    `json:"igvm_bytes"`
	PVHBytes       int64    `json:"pvh_bytes"`
	ShimBytes      int64    `json:"shim_bytes"`
	KernelBytes    int64    `json:"kernel_bytes"`
	InitramfsBytes int64    `json:"initramfs_bytes"`
	Digest         [32]byte `json:"-"` // SHA-256 over the image's pages, see boot/layout
}

// badImage says that the image, or a part of it, is the cause.
func badImage(cause, remedy string, err error) error {
	return &handoff.Failure{Outcome: handoff.OutcomeBadImage, Cause: cause, Remedy: remedy, Err: err}
}

// remedyBuild is what helps against every image file that cannot be used.
const remedyBuild = "build it again with `keel image build`"

// snpPolicy is the guest policy of Keel's images on SNP. KVM itself needs firmware
// of ABI 1.51. Only a debug image lets the host read the memory.
func snpPolicy(debug bool) measure.SNPPolicy {
	return measure.SNPPolicy{ABIMajor: 1, ABIMinor: 51, SMT: true, Debug: debug}
}

// tdxPolicy is the same on TDX. A page that the host takes away must stop the TD:
// Linux has no use for a #VE at any instruction.
func tdxPolicy(debug bool) measure.TDXPolicy {
	return measure.TDXPolicy{Debug: debug, SEPTVEDisable: true}
}

// Build composes the image and writes it to opts.Out. The same options and the
// same compiler give the same bytes. A kernel or initramfs that cannot be used
// is a *handoff.Failure with OutcomeBadImage.
func Build(opts Options) (Result, error) {
	kernel, err := input("VTL2 kernel", opts.Kernel, opts.KernelPath)
	if err != nil {
		return Result{}, err
	}
	// Inputs are read and checked before the compiler runs: the likely mistakes
	// show at once.
	initramfs, err := input("initramfs", opts.Initramfs, opts.InitramfsPath)
	if err != nil {
		return Result{}, err
	}
	k, err := layout.ParseKernel(kernel)
	if err != nil {
		return Result{}, badImage("VTL2 kernel "+opts.KernelPath, "give an x86-64 bzImage", err)
	}
	sh, err := shim.Build(opts.CacheDir)
	if err != nil {
		return Result{}, err
	}
	img, err := layout.Compose(layout.Input{
		Shim: sh, Kernel: k, Initramfs: initramfs, Cmdline: opts.Cmdline, Debug: opts.Debug,
		SNP: new(snpPolicy(opts.Debug).Word()), TDX: new(tdxPolicy(opts.Debug).Word()),
	})
	if err != nil {
		return Result{}, badImage("image", "change kernel, initramfs or command line", err)
	}
	f, err := img.IGVM()
	if err != nil {
		return Result{}, err
	}
	file, err := igvm.Write(f)
	if err != nil {
		return Result{}, err
	}
	// The ELF is made from the file, not from img, so that the two cannot differ.
	elf, err := PVHFromIGVM(file)
	if err != nil {
		return Result{}, err
	}
	res := Result{
		IGVM: filepath.Join(opts.Out, IGVMName), PVH: filepath.Join(opts.Out, PVHName),
		IGVMBytes: int64(len(file)), PVHBytes: int64(len(elf)), ShimBytes: int64(len(sh.Code)),
		KernelBytes: int64(len(kernel)), InitramfsBytes: int64(len(initramfs)), Digest: img.Info.Digest,
	}
	if err := os.MkdirAll(opts.Out, 0o755); err != nil {
		return Result{}, err
	}
	return res, errors.Join(writeFile(res.IGVM, file), writeFile(res.PVH, elf))
}

// input returns the bytes given, or those of the file.
func input(what string, b []byte, path string) ([]byte, error) {
	if b != nil {
		return b, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, badImage(what+" cannot be read", "build it with `make image`", err)
	}
	return b, nil
}

// writeFile replaces a file in one step: a launcher that starts meanwhile sees
// the old image or the new one.
func writeFile(path string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".keel-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails once renamed
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// read decodes and checks an image; name is for the error.
func read(name string, image []byte) (*igvm.File, *layout.Image, error) {
	// The sentinels of igvm and layout become words for the user here, in one place.
	f, err := igvm.Read(image)
	switch {
	case errors.Is(err, igvm.ErrArchitecture):
		return nil, nil, badImage(name+" is for another architecture", "use an image built for x64", err)
	case errors.Is(err, igvm.ErrTruncated):
		return nil, nil, badImage(name+" is truncated", remedyBuild, err)
	case err != nil:
		return nil, nil, badImage(name+" is corrupt", remedyBuild, err)
	}
	img, err := layout.FromIGVM(f)
	switch {
	case errors.Is(err, layout.ErrDigest):
		return nil, nil, badImage(name+" is corrupt", remedyBuild, err)
	case err != nil:
		return nil, nil, badImage(name+" cannot be used", remedyBuild, err)
	}
	return f, img, nil
}

// PVHFromIGVM wraps the pages of an image into an ELF file with a PVH entry
// note, for QEMU's -kernel. Its errors are those of Open.
func PVHFromIGVM(image []byte) ([]byte, error) {
	_, img, err := read("image", image)
	if err != nil {
		return nil, err
	}
	elf, err := img.PVH()
	if err != nil {
		return nil, fmt.Errorf("image as ELF: %w", err)
	}
	return elf, nil
}
