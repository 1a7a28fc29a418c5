// Package tpm tests the TPM of guests: it boots guests that use it with Debian's own
// tpm2-tools, ends their machines in good and bad ways, and looks at what they find the
// next time.
//
// A guest is a Debian cloud kernel with an initrd of busybox, the tools (see
// kernelcfg.GuestTPMTools) and the scripts of this package. The kernel's command line
// says which script it runs (see initramfs.ToolsInitrd). Console lines are those of
// package tests/guest; its notes are
//
//	file NAME BASE64      a file of the guest's
//	pcr BANK NUMBER VALUE
//	found NUMBER          what an NV index held
//	ack NUMBER            it was written there
//
// KEEL_SOAK runs everything on each interface, kernel and number of VPs, and kills 100
// machines; without it a slice runs that fits CI.
package tpm

import (
	"context"
	"embed"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"keel/initramfs"
	"keel/kernelcfg"
	"keel/tests/guest"
	"keel/tests/harness"
)

// Scripts that guests run.
const (
	ScriptTools    = "tools"    // everything that tools do with a TPM
	ScriptSelftest = "selftest" // the kernel's own tests
	ScriptState    = "state"    // leave something, find it again
	ScriptLUKS     = "luks"     // a disk that only this TPM opens
	ScriptWrites   = "writes"   // until the machine is killed

	ScriptConfidential = "confidential" // what a confidential guest has
)

//go:embed scripts/*
var scripts embed.FS

// drivers are the modules of the interfaces, where they are none of the kernel's own;
// diskDrivers those of an encrypted disk.
var (
	drivers     = []string{"tpm_crb", "tpm_tis"}
	diskDrivers = []string{"virtio_pci", "virtio_scsi", "sd_mod", "dm_crypt", "xts"}
)

// Guest is what a guest of one kernel is made of.
type Guest struct {
	Kernel   string // file
	Initrd   string // file
	Selftest string // initrd of ScriptSelftest

	modules map[bool][]string // in the order of loading; true: with those of a disk
}

// MakeGuest makes the guest of a kernel that kernelcfg.GuestKernels names, in folder dir,
// from the checkout in root.
func MakeGuest(ctx context.Context, root, dir, kernel string) (*Guest, error) {
	g := &Guest{
		Initrd: filepath.Join(dir, "tpm-"+kernel+".cpio"), Selftest: filepath.Join(dir, "selftest-"+kernel+".cpio"),
		modules: map[bool][]string{},
	}
	var err error
	if g.Kernel, err = kernelcfg.GuestKernel(ctx, kernel); err != nil {
		return nil, err
	}
	var t initramfs.Tools
	if t.Busybox, err = kernelcfg.Busybox(ctx); err != nil {
		return nil, err
	}
	for _, disk := range []bool{false, true} {
		names := drivers
		if disk {
			names = append(slices.Clone(drivers), diskDrivers...)
		}
		modules, err := kernelcfg.GuestModules(ctx, kernel, names...)
		if err != nil {
			return nil, err
		}
		for _, m := range modules {
			g.modules[disk] = append(g.modules[disk], m.Name)
			if !slices.Contains(t.Modules, m.Path) {
				t.Modules = append(t.Modules, m.Path)
			}
		}
	}
	if t.Files, err = harness.Scripts(scripts); err != nil {
		return nil, err
	}
	selftest, err := kernelcfg.GuestTPMSelftests(ctx)
	if err != nil {
		return nil, err
	}
	if err := harness.WriteInitrd(g.Selftest, with(t, selftest)); err != nil {
		return nil, err
	}
	attest := filepath.Join(dir, "attest")
	if err := initramfs.CompileProgram(ctx, root, "keel/tests/tpm/attest", attest); err != nil {
		return nil, err
	}
	t.Files = append(t.Files, initramfs.File{Name: "bin/attest", Path: attest})
	tools, err := kernelcfg.GuestTPMTools(ctx)
	if err != nil {
		return nil, err
	}
	return g, harness.WriteInitrd(g.Initrd, with(t, tools))
}

// with adds files to what a guest gets.
func with(t initramfs.Tools, files []kernelcfg.GuestFile) initramfs.Tools {
	t.Files = slices.Clone(t.Files)
	for _, f := range files {
		t.Files = append(t.Files, initramfs.File{Name: f.Name, Path: f.Path})
	}
	return t
}

// Flags are those of a run of the guest with a script and its parameters.
func (g *Guest) Flags(script string, params ...string) []string {
	initrd := g.Initrd
	if script == ScriptSelftest {
		initrd = g.Selftest
	}
	disk := script == ScriptLUKS || script == ScriptConfidential
	return []string{"--kernel", g.Kernel, "--initrd", initrd, "--append", harness.ScriptCmdline(g.modules[disk], script, params...)}
}

// PCR is one register of one bank.
type PCR struct {
	Bank   string // sha256 or sha384
	Number int
}

// Said is what a guest's notes tell.
type Said struct {
	Files map[string][]byte
	PCRs  map[PCR]string // hex
	Found int            // -1 without such a note
	Ack   int            // the last one, 0 for none
}

// Read reads the notes of a console. A last line under way is left out.
func Read(console string) (Said, error) {
	s := Said{Files: map[string][]byte{}, PCRs: map[PCR]string{}, Found: -1}
	for _, note := range guest.Parse(console[:strings.LastIndexByte(console, '\n')+1]).Notes {
		var err error
		f := strings.Fields(note)
		switch {
		case len(f) == 3 && f[0] == "file":
			s.Files[f[1]], err = base64.StdEncoding.DecodeString(f[2])
		case len(f) == 4 && f[0] == "pcr":
			p := PCR{Bank: f[1]}
			p.Number, err = strconv.Atoi(f[2])
			s.PCRs[p] = f[3]
		case len(f) == 2 && f[0] == "found":
			s.Found, err = strconv.Atoi(f[1])
		case len(f) == 2 && f[0] == "ack":
			var n int
			if n, err = strconv.Atoi(f[1]); err == nil && n <= s.Ack {
				err = fmt.Errorf("it comes after %d", s.Ack)
			}
			s.Ack = n
		default:
			err = fmt.Errorf("it is unknown")
		}
		if err != nil {
			return s, fmt.Errorf("note %q: %w", note, err)
		}
	}
	return s, nil
}
