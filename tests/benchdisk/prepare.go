package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"keel/boot/qemu"
	"keel/initramfs"
	"keel/kernelcfg"
)

// Programs on every side, in the guest and in VTL2.
const (
	fioPath  = "usr/bin/fio"
	loadPath = "bin/load"
)

// Disks, as the kernels call them.
const (
	nvmeDisk = "/dev/nvme0n1" // in VTL2
	scsiDisk = "/dev/sda"     // in the guest
)

// script is what a guest runs. keel.plan= of its kernel's command line has the plan.
const script = `for word in $(cat /proc/cmdline); do
	case $word in keel.plan=*) plan=${word#*=} ;; esac
done
exec /` + loadPath + ` -plan "$plan" ` + scsiDisk + "\n"

// drivers are the modules that a guest loads on each side.
var drivers = map[string][]string{
	keelVirtio:  {"virtio_pci", "virtio_scsi", "sd_mod"},
	keelStorVSC: {"hv_vmbus", "hv_storvsc", "sd_mod"},
	peerVirtio:  {"virtio_pci", "virtio_scsi", "sd_mod"},
}

// makeGuest makes the guest, the same for all sides but for the modules that it loads.
func (b *bench) makeGuest(ctx context.Context, kernel string) error {
	path, err := kernelcfg.GuestKernel(ctx, kernel)
	if err != nil {
		return err
	}
	b.kernelName = filepath.Base(path)
	if b.kernel, err = os.ReadFile(path); err != nil {
		return err
	}
	if b.fio, err = kernelcfg.GuestFio(ctx); err != nil {
		return err
	}
	b.load = filepath.Join(b.work, "load")
	if err := initramfs.CompileProgram(ctx, ".", "keel/tests/benchdisk/load", b.load); err != nil {
		return err
	}
	tools := initramfs.Tools{Files: []initramfs.File{
		{Name: fioPath, Path: b.fio}, {Name: loadPath, Path: b.load}, {Name: "scripts/load", Data: []byte(script)},
	}}
	if tools.Busybox, err = kernelcfg.Busybox(ctx); err != nil {
		return err
	}
	b.modules = map[string][]string{}
	seen := map[string]bool{}
	for side, names := range drivers {
		modules, err := kernelcfg.GuestModules(ctx, kernel, names...)
		if err != nil {
			return err
		}
		for _, m := range modules {
			b.modules[side] = append(b.modules[side], m.Name)
			if !seen[m.Path] {
				seen[m.Path] = true
				tools.Modules = append(tools.Modules, m.Path)
			}
		}
	}
	b.initrd, err = initramfs.ToolsInitrd(tools)
	return err
}

// memoryFolder is a file system without a disk beneath it, whose noise would be
// measured with the rest.
const memoryFolder = "/dev/shm"

// makeDisk makes the image, full of what no layer can shorten, and returns what
// removes it.
func (b *bench) makeDisk(dir, text string) (func(), error) {
	size, err := qemu.ParseMemory(text)
	if err != nil {
		return nil, fmt.Errorf("-size: %w", err)
	}
	if dir == "" {
		dir = b.work
		var s unix.Statfs_t
		if unix.Statfs(memoryFolder, &s) == nil && s.Bavail*uint64(s.Bsize) > size+size/2 {
			dir = memoryFolder
		}
	}
	f, err := os.CreateTemp(dir, "keel-benchdisk-*.img")
	if err != nil {
		return nil, err
	}
	remove := func() { os.Remove(f.Name()) }
	w := bufio.NewWriterSize(f, 1<<20)
	_, err = io.CopyN(w, rand.NewChaCha8([32]byte{}), int64(size))
	if err = errors.Join(err, w.Flush(), f.Close()); err != nil {
		remove()
		return nil, err
	}
	b.disk, b.diskBytes = f.Name(), size
	return remove, nil
}
