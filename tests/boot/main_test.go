// Package boot boots guests beneath Keel, in QEMU, through the command line tool,
// and judges what they and the run reports say. Boots run one at a time: a machine
// of two cores has no room for more.
//
// KEEL_SOAK=N runs the whole matrix instead of the slice that fits a CI run, and N
// boots in a row.
package boot

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"keel/initramfs"
	"keel/kernelcfg"
	"keel/tests/guest"
)

const root = "../.." // the module's folder

// payload is what every boot shares. TestMain makes it from the checkout.
type payload struct {
	keel    string // the command line tool
	image   string // release image
	program string // initrd with the guest test program
	shell   string // initrd with busybox
	kernels map[string]string
}

var built payload

// soak returns KEEL_SOAK, 0 when it is unset.
func soak() int {
	n, err := strconv.Atoi(os.Getenv("KEEL_SOAK"))
	if err != nil {
		return 0
	}
	return n
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "keel-boot-tests-")
	if err == nil {
		defer os.RemoveAll(dir)
		built, err = prepare(ctx, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot prepare the boots:", err)
		return 1
	}
	return m.Run()
}

// prepare builds the tool, the image and the initrds from the checkout, into dir.
func prepare(ctx context.Context, dir string) (payload, error) {
	p := payload{
		keel:    filepath.Join(dir, "keel"),
		image:   filepath.Join(dir, "keel.igvm"),
		program: filepath.Join(dir, "program.cpio"),
		shell:   filepath.Join(dir, "shell.cpio"),
		kernels: map[string]string{},
	}
	for _, args := range [][]string{
		{"go", "build", "-o", p.keel, "."},
		{p.keel, "image", "build", "--out", dir},
	} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir, cmd.Stderr = root, os.Stderr
		if err := cmd.Run(); err != nil {
			return p, fmt.Errorf("%v: %w", args, err)
		}
	}
	for _, name := range kernelcfg.GuestKernels() {
		path, err := kernelcfg.GuestKernel(ctx, name)
		if err != nil {
			return p, err
		}
		p.kernels[name] = path
	}
	program, err := guest.Initrd(ctx, root)
	if err != nil {
		return p, err
	}
	busybox, err := kernelcfg.Busybox(ctx)
	if err != nil {
		return p, err
	}
	shell, err := initramfs.BusyboxInitrd(busybox)
	if err != nil {
		return p, err
	}
	if err := os.WriteFile(p.program, program, 0o600); err != nil {
		return p, err
	}
	return p, os.WriteFile(p.shell, shell, 0o600)
}
