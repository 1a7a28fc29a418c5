// Package boot boots guests beneath Keel, in QEMU, through the command line tool,
// and judges what they and the run reports say. As many boots run at a time as there
// are processors, but for those in a row: a guest takes one, seldom more.
//
// KEEL_SOAK runs the whole matrix instead of the slice that fits a CI run, and 30
// boots in a row.
package boot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keel/initramfs"
	"keel/kernelcfg"
	"keel/tests/guest"
	"keel/tests/harness"
)

const root = "../.." // the module's folder

// tool is what all tests run.
var tool *harness.Tool

// payload is what guests are made of. TestMain makes it from the checkout.
var payload struct {
	program string // initrd with the guest test program
	shell   string // initrd with busybox
	disks   string // initrd with busybox, and modules for disks of 6.1
	modules string // these, as keel.modules= names them
	kernels map[string]string
}

func TestMain(m *testing.M) { os.Exit(harness.Main(m, root, &tool, prepare)) }

// prepare makes the payload, in dir.
func prepare(ctx context.Context, dir string) error {
	payload.program, payload.shell = filepath.Join(dir, "program.cpio"), filepath.Join(dir, "shell.cpio")
	payload.kernels = map[string]string{}
	for _, name := range kernelcfg.GuestKernels() {
		path, err := kernelcfg.GuestKernel(ctx, name)
		if err != nil {
			return err
		}
		payload.kernels[name] = path
	}
	program, err := guest.Initrd(ctx, root)
	if err != nil {
		return err
	}
	busybox, err := kernelcfg.Busybox(ctx)
	if err != nil {
		return err
	}
	shell, err := initramfs.BusyboxInitrd(busybox)
	if err != nil {
		return err
	}
	payload.disks = filepath.Join(dir, "disks.cpio")
	modules, err := kernelcfg.GuestModules(ctx, "6.1", "virtio_pci", "virtio_scsi", "sd_mod")
	if err != nil {
		return err
	}
	tools := initramfs.Tools{Busybox: busybox}
	var names []string
	for _, m := range modules {
		names, tools.Modules = append(names, m.Name), append(tools.Modules, m.Path)
	}
	payload.modules = strings.Join(names, ",")
	return errors.Join(
		os.WriteFile(payload.program, program, 0o600), os.WriteFile(payload.shell, shell, 0o600), harness.WriteInitrd(payload.disks, tools),
	)
}
