package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"keel/boot"
	"keel/boot/handoff"
	"keel/diag/owner"
	"keel/initramfs"
	"keel/kernelcfg"
)

// guestKernel names the kernel that runs when none is given.
const guestKernel = "6.1"

// buildDir is where a checkout keeps its images. The debug image has a
// folder of its own in it.
const buildDir = "build"

// errNoCheckout is the cause where something must be built and there is
// nothing to build from.
var errNoCheckout = errors.New("no go.mod of keel in this folder or above")

// checkout returns the root of the checkout that holds the working directory.
func checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module keel\n") {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errNoCheckout
		}
		dir = up
	}
}

// cmdlines are the measured command lines of the VTL2 kernel. It restarts at a
// panic, which ends the VM: QEMU runs with -no-reboot. On a busy host a virtual
// timer may miss what the kernel's check of it expects, so there is none. Devices
// interrupt the first CPU, which the launcher adds for Keel's own work.
var cmdlines = map[initramfs.Flavour]string{
	initramfs.Release: "console=ttyS0 quiet irqaffinity=0 tsc=reliable no_timer_check swiotlb=512 kvm.mmio_caching=N panic=-1 oops=panic",
	initramfs.Debug:   "console=ttyS0 irqaffinity=0 tsc=reliable no_timer_check swiotlb=512 kvm.mmio_caching=N panic=-1 oops=panic",
}

// buildImage makes an image of the checkout at root. An empty kernel is the
// one that kernelcfg builds for release: both images run the same kernel, so
// that what is debugged is what is shipped. --kernel takes the debug flavour. The keys are
// those of the owner, if it has one.
func buildImage(ctx context.Context, root, kernel, out string, flavour initramfs.Flavour, keys owner.Keys) (boot.Result, error) {
	log := slog.New(progress{os.Stderr})
	if kernel == "" {
		var err error
		if kernel, err = kernelcfg.Build(ctx, kernelcfg.Release); err != nil {
			return boot.Result{}, err
		}
	}
	files, err := initramfs.Build(ctx, initramfs.Options{Flavour: flavour, Root: root, Owner: keys, Log: log})
	if err != nil {
		return boot.Result{}, err
	}
	result, err := boot.Build(boot.Options{
		KernelPath: kernel, Initramfs: files, Cmdline: cmdlines[flavour], Debug: flavour == initramfs.Debug, Out: out,
	})
	if err != nil {
		return boot.Result{}, fmt.Errorf("building the image: %w", err)
	}
	log.Info("image", "file", result.IGVM, "bytes", result.IGVMBytes)
	return result, nil
}

// defaultImage returns the release image of the checkout, and builds it when
// it is missing.
func defaultImage(ctx context.Context) (string, error) {
	root, err := checkout()
	if err != nil {
		return "", missing(handoff.OutcomeBadImage, "--image", err)
	}
	path := filepath.Join(root, buildDir, boot.IGVMName)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return path, nil // what is wrong with it shows when it is read
	}
	result, err := buildImage(ctx, root, "", filepath.Join(root, buildDir), initramfs.Release, owner.Keys{})
	return result.IGVM, err
}

// missing is the failure of a file that has no default here.
func missing(o handoff.Outcome, flag string, err error) error {
	return &handoff.Failure{Outcome: o, Cause: "there is no default for " + flag, Remedy: "give " + flag + " FILE", Err: err}
}

// defaultKernel returns Debian's cloud kernel, fetched when it is needed.
func defaultKernel(ctx context.Context) (string, error) {
	path, err := kernelcfg.GuestKernel(ctx, guestKernel)
	if err != nil {
		return "", missing(handoff.OutcomeBadKernel, "--kernel", err)
	}
	return path, nil
}

// defaultInitrd returns an initrd that ends at a shell.
func defaultInitrd(ctx context.Context) ([]byte, error) {
	path, err := kernelcfg.Busybox(ctx)
	if err != nil {
		return nil, missing(handoff.OutcomeBadInitrd, "--initrd", err)
	}
	return initramfs.BusyboxInitrd(path)
}
