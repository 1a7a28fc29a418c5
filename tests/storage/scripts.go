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
// As many boots run at a time as there are processors. KEEL_SOAK=N runs everything on
// each front end, kernel and number of VPs, with sizes of the real thing, and kills N
// machines; without it a slice runs that fits CI. Golden output is under testdata; KEEL_GOLDEN=write records it.
package storage

import (
	"embed"
	"fmt"
	"path"
	"strings"

	"keel/initramfs"
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
	ScriptDurable    = "durable"
	ScriptSG         = "sg" // what the disk says of itself
)

//go:embed scripts/*
var scripts embed.FS

// Scripts returns the scripts and what they share, as files of a guest's initrd.
func Scripts() ([]initramfs.File, error) {
	entries, err := scripts.ReadDir("scripts")
	if err != nil {
		return nil, err
	}
	var files []initramfs.File
	for _, e := range entries {
		data, err := scripts.ReadFile(path.Join("scripts", e.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, initramfs.File{Name: "scripts/" + e.Name(), Data: data})
	}
	return files, nil
}

// Cmdline returns the kernel parameters that load modules and run a script with
// parameters of its own, each "name=value" without the prefix keel.
func Cmdline(modules []string, script string, params ...string) string {
	words := []string{"console=ttyS0 quiet panic=-1", "modules=" + strings.Join(modules, ","), "script=" + script}
	return strings.Join(append(words, params...), " keel.")
}

// RootCmdline returns the kernel parameters that load modules and boot the system on
// the disk with that logical unit number.
func RootCmdline(modules []string, lun int) string {
	return fmt.Sprintf("console=ttyS0 quiet panic=-1 keel.modules=%s keel.root=%d", strings.Join(modules, ","), lun)
}
