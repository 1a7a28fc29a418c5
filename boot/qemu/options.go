// Package qemu starts stock QEMU with Keel and a guest in it, and stays with
// it until the run is over: it is the launcher behind "keel run".
//
// Nothing is ever put on disk for QEMU: payloads travel as memory files and
// channels as socket pairs, all inherited, so that a launcher killed in any way
// leaves nothing behind. Whatever comes out of the VM is hostile.
package qemu

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"keel/boot/handoff"
)

// Accel names how QEMU runs the VM.
type Accel string

// The choices of --accel.
const (
	AccelAuto Accel = "auto" // KVM where nesting really works, TCG elsewhere
	AccelKVM  Accel = "kvm"  // hardware virtualization, nested
	AccelTCG  Accel = "tcg"  // emulation, SVM included
)

// Loader names how QEMU gets the paravisor image.
type Loader string

// The choices of --loader.
const (
	LoaderAuto Loader = "auto" // PVH: works with every QEMU
	LoaderPVH  Loader = "pvh"  // the image's pages wrapped as a PVH kernel
	LoaderIGVM Loader = "igvm" // QEMU's own IGVM loader (-object igvm-cfg)
)

// Bounds of what can be asked for.
const (
	MaxVPs     = 16       // local APICs and MADT entries that Keel offers
	MinMemory  = 64 << 20 // bytes; a Debian kernel does not unpack in less
	MaxMemory  = 64 << 30 // bytes; what the paravisor maps at most
	memoryUnit = 2 << 20  // bytes; guest memory is backed by huge pages
)

// vtl2Reserve returns the memory of the VM that is Keel's own beside a guest
// of the given size, both in bytes: shim, VTL2 kernel, initramfs, paravisor,
// and the kernel's page structures for all memory, 1/64 of it, until large
// pages make most of those needless.
func vtl2Reserve(guest uint64) uint64 {
	const base, unit = 64 << 20, 1 << 20
	return (base + guest/64 + unit - 1) / unit * unit
}

// imageReserve returns what comes on top of that for an image that is larger than a release
// image may be, as a debug image is, in bytes: its programs lie in memory as they were
// packed, and unpacked.
func imageReserve(image int64) uint64 {
	const release, unit = 16 << 20, 1 << 20
	return uint64(max(0, 2*(image-release)+unit-1)) / unit * unit
}

// disksReserve returns what comes on top of that for disks, in bytes: tables of the
// IOMMU, the front's requests, and for each controller, also one that is plugged in
// later, its queues and their lists.
func disksReserve(disks []Disk, vps int) uint64 {
	if len(disks) == 0 {
		return 0
	}
	n, v := uint64(ports(len(controllers(disks)))), uint64(vps)
	return (4 + 2*v + n*(8+v+7)/8) << 20
}

// tpmReserve is what comes on top of that for a TPM, in bytes: its worker, and states of
// it that are sealed.
const tpmReserve = 16 << 20

// Options is what a run needs to know. Image, Kernel, Initrd and Config are
// contents, which the caller has checked.
type Options struct {
	Image  []byte // IGVM file, or its PVH wrapper, as Loader demands
	Kernel []byte // guest kernel: bzImage or vmlinux
	Initrd []byte // guest initrd; empty for none
	Config []byte // configuration for the paravisor (opt/keel/config)

	VPs    int    // virtual processors of the guest
	Memory uint64 // guest memory in bytes; VTL2's own comes on top
	Name   string // name of the VM
	Accel  Accel
	Loader Loader

	Disks []Disk // named by NameDisks
	TPM   bool   // the guest has one; its state is on a hidden disk
	// VMMemory is the memory of the VM in bytes, the guest's included; 0: what Keel needs.
	VMMemory uint64
	// KeyServer is the address, as handoff.ParseKeyServer takes it, to which connections of
	// the VM to handoff.PortKeyServer go; empty refuses them.
	KeyServer string
	// DiskConfig says a disk in the words of the configuration.
	DiskConfig func(*Disk) ([]byte, error)

	QEMU      string   // QEMU binary; empty searches PATH
	ExtraArgs []string // appended to QEMU's arguments, for experiments

	Console    string        // "stdio" or the file that takes the raw console output
	Log        string        // file that takes the paravisor's log; empty for none
	VTL2Log    string        // file that takes the VTL2 kernel's messages; empty for none
	JSONReport string        // file that takes the run report; empty for none
	Timeout    time.Duration // 0 for none
	ImageBytes int64         // size of the IGVM file, for the report
}

// ConsoleStdio is the Console that is the launcher's own terminal.
const ConsoleStdio = "stdio"

// goodName keeps the name usable in QEMU options, socket paths and logs.
var goodName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Validate checks the values that need no look at the host. Its errors are
// of type *handoff.Failure.
func (o *Options) Validate() error {
	switch {
	case o.VPs < 1 || o.VPs > MaxVPs:
		return failure(handoff.OutcomeBadVPCount, fmt.Sprintf("--vps %d is impossible", o.VPs),
			fmt.Sprintf("ask for 1 to %d", MaxVPs))
	case o.Memory < MinMemory:
		return failure(handoff.OutcomeTooLittleMemory, fmt.Sprintf("--mem %s is too little for a guest", mib(o.Memory)),
			"ask for at least "+mib(MinMemory))
	case o.Memory > MaxMemory || o.Memory%memoryUnit != 0:
		return failure(handoff.OutcomeUsage, fmt.Sprintf("--mem %d is not a multiple of 2M up to 64G", o.Memory),
			"ask for example for 512M")
	case !goodName.MatchString(o.Name):
		return failure(handoff.OutcomeUsage, fmt.Sprintf("--name %q is not usable", o.Name),
			"use up to 63 letters, digits, dots, dashes and underscores")
	case o.Accel != AccelAuto && o.Accel != AccelKVM && o.Accel != AccelTCG:
		return failure(handoff.OutcomeUsage, fmt.Sprintf("--accel %q is unknown", o.Accel), "use auto, kvm or tcg")
	case o.Loader != LoaderAuto && o.Loader != LoaderPVH && o.Loader != LoaderIGVM:
		return failure(handoff.OutcomeUsage, fmt.Sprintf("--loader %q is unknown", o.Loader), "use auto, pvh or igvm")
	case o.Timeout < 0:
		return failure(handoff.OutcomeUsage, fmt.Sprintf("--timeout %v is negative", o.Timeout), "use for example 90s")
	case o.Console == "":
		return failure(handoff.OutcomeUsage, "--console is empty", "use stdio or the name of a file")
	}
	return nil
}

// ParseMemory reads a size as "512M" or "1G": a whole number of KiB, MiB,
// GiB or TiB, or of MiB when no unit is given. It returns bytes.
func ParseMemory(s string) (uint64, error) {
	n, err := parseSize(s, 20)
	if err != nil {
		return 0, failure(handoff.OutcomeUsage, fmt.Sprintf("--mem %q is not a size", s), "use for example 512M or 2G")
	}
	return n, nil
}

// parseSize reads a size whose unit is 1 << shift bytes when none is given.
func parseSize(s string, shift int) (uint64, error) {
	digits := s
	if i := strings.IndexAny(s, "kKmMgGtT"); i >= 0 && i == len(s)-1 {
		digits = s[:i]
		shift = map[byte]int{'k': 10, 'm': 20, 'g': 30, 't': 40}[s[i]|0x20]
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err == nil && n > math.MaxUint64>>shift {
		err = strconv.ErrRange
	}
	return n << shift, err
}

// failure makes a Failure of a cause and a remedy.
func failure(o handoff.Outcome, cause, remedy string) *handoff.Failure {
	return &handoff.Failure{Outcome: o, Cause: cause, Remedy: remedy}
}

// OutcomeOf says with which outcome an error ends a run: that of the Failure
// in it, or an internal error.
func OutcomeOf(err error) handoff.Outcome {
	if f, ok := errors.AsType[*handoff.Failure](err); ok {
		return f.Outcome
	}
	return handoff.OutcomeInternal
}

// mib prints a number of bytes for people.
func mib(n uint64) string { return strconv.FormatUint(n>>20, 10) + "M" }
