package storage

import (
	"context"
	"errors"
	"path/filepath"

	"keel/initramfs"
	"keel/kernelcfg"
	"keel/tests/harness"
)

// Front ends, as --disk names them.
const (
	FrontVirtioSCSI = "virtio-scsi"
	FrontStorVSC    = "storvsc"
)

// Fronts lists the front ends.
func Fronts() []string { return []string{FrontVirtioSCSI, FrontStorVSC} }

// drivers are the modules of each front end.
var drivers = map[string][]string{
	FrontVirtioSCSI: {"virtio_pci", "virtio_scsi"},
	FrontStorVSC:    {"hv_vmbus", "hv_storvsc"},
}

// common are the modules that every guest loads: disks, discs, and the way past both.
var common = []string{"sd_mod", "sr_mod", "sg"}

// fileSystems are the modules of file systems, where they are none of the kernel's own.
var fileSystems = []string{"ext4", "xfs", "isofs"}

// Guest is what a guest of one kernel is made of.
type Guest struct {
	Kernel string // file
	Tools  string // initrd with the tools and scripts
	Boot   string // initrd that only hands over to a disk's system

	modules map[string][]string // of each front end, in the order of loading
}

// Modules returns the modules that a guest with that front end loads, in order.
func (g *Guest) Modules(front string) []string { return g.modules[front] }

// MakeGuest makes the guest of a kernel that kernelcfg.GuestKernels names, in folder
// dir. root is the folder of the keel module.
func MakeGuest(ctx context.Context, root, dir, kernel string) (*Guest, error) {
	g := &Guest{
		Tools: filepath.Join(dir, "tools-"+kernel+".cpio"), Boot: filepath.Join(dir, "boot-"+kernel+".cpio"),
		modules: map[string][]string{},
	}
	var err error
	if g.Kernel, err = kernelcfg.GuestKernel(ctx, kernel); err != nil {
		return nil, err
	}
	busybox, err := kernelcfg.Busybox(ctx)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, front := range Fronts() {
		wanted := append(append(append([]string{}, drivers[front]...), common...), fileSystems...)
		modules, err := kernelcfg.GuestModules(ctx, kernel, wanted...)
		if err != nil {
			return nil, err
		}
		for _, m := range modules {
			g.modules[front] = append(g.modules[front], m.Name)
		}
		all = append(all, wanted...)
	}
	modules, err := kernelcfg.GuestModules(ctx, kernel, all...)
	if err != nil {
		return nil, err
	}
	boot := initramfs.Tools{Busybox: busybox}
	for _, m := range modules {
		boot.Modules = append(boot.Modules, m.Path)
	}
	tools := boot
	if tools.Files, err = toolFiles(ctx, root, dir); err != nil {
		return nil, err
	}
	return g, errors.Join(harness.WriteInitrd(g.Boot, boot), harness.WriteInitrd(g.Tools, tools))
}

// toolFiles returns programs and scripts of the initrd with the tools.
func toolFiles(ctx context.Context, root, dir string) ([]initramfs.File, error) {
	files, err := Scripts()
	if err != nil {
		return nil, err
	}
	tools, err := kernelcfg.GuestTools(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range tools {
		files = append(files, initramfs.File{Name: t.Name, Path: t.Path})
	}
	writer := filepath.Join(dir, "durable")
	if err := initramfs.CompileProgram(ctx, root, "keel/tests/storage/writer", writer); err != nil {
		return nil, err
	}
	return append(files, initramfs.File{Name: "bin/durable", Path: writer}), nil
}
