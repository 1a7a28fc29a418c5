// Package storage tests the disks of guests: it boots guests whose disks Keel
// translates, lets them run scripts and Debian's own tools, and compares what they
// say, and what the images hold afterwards, with what must be.
//
// A guest is a Debian cloud kernel with an initrd of busybox, that kernel's modules,
// the tools (see kernelcfg.GuestTools), the scripts of this package and the program
// of writer. The kernel's command line says what it does (see
// initramfs.ToolsInitrd); further parameters are for the script:
//
//	keel.lun=N    the disk that the script uses, 0 when absent
//	keel.mib=N    how much it writes
//
// Console lines: those of package tests/guest, and
//
//	KEEL-STORAGE begin NAME       a command's output follows
//	KEEL-STORAGE end NAME STATUS  it ended
//	KEEL-STORAGE event WORDS      something that the host may wait for
//
// As many boots run at a time as there are processors. KEEL_SOAK runs everything on
// each front end, kernel and number of VPs, with sizes of the real thing, and kills 50
// machines; without it a slice runs that fits CI. Golden output is under testdata; KEEL_GOLDEN=write records it.
package storage

import (
	"embed"
	"fmt"
	"strings"

	"keel/initramfs"
	"keel/tests/harness"
)

// Scripts that guests run.
const (
	ScriptVerify     = "verify"     // fio with CRC-32C
	ScriptFileSystem = "filesystem" // make, fill, check
	ScriptDiscard    = "discard"
	ScriptBlocks4K   = "blocks4k"
	ScriptPattern    = "pattern" // for the host to compare
	ScriptDVD        = "dvd"
	ScriptHotplug    = "hotplug"
	ScriptFaults     = "faults" // of the first disk, which the host makes
	ScriptAbsent     = "absent" // no disk at all
	ScriptDurable    = "durable"
	ScriptSG         = "sg" // what the disk says of itself
	ScriptLoad       = "load"
)

//go:embed scripts/*
var scripts embed.FS

// Scripts returns the scripts and what they share, as files of a guest's initrd.
func Scripts() ([]initramfs.File, error) { return harness.Scripts(scripts) }

// RootCmdline returns the kernel parameters that load modules and boot the system on
// the disk with that logical unit number.
func RootCmdline(modules []string, lun int) string {
	return fmt.Sprintf("console=ttyS0 quiet panic=-1 keel.modules=%s keel.root=%d", strings.Join(modules, ","), lun)
}
