package storage

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/kernelcfg"
	"keel/tests/guest"
	"keel/tests/harness"
)

const root = "../.." // the module's folder

// tool is what all tests run.
var tool *harness.Tool

// guests are what runs, by kernel. TestMain makes them from the checkout.
var guests = map[string]*Guest{}

// size returns what a slice for CI uses, or the real thing.
func size(ci, whole int) int {
	if harness.Soak() {
		return whole
	}
	return ci
}

func TestMain(m *testing.M) { os.Exit(harness.Main(m, root, &tool, prepare)) }

func prepare(ctx context.Context, dir string) error {
	for _, kernel := range kernelcfg.GuestKernels() {
		g, err := MakeGuest(ctx, root, dir, kernel)
		if err != nil {
			return err
		}
		guests[kernel] = g
	}
	return nil
}

// machine is a machine whose front is that of its disks.
type machine struct{ harness.Machine }

// machines lists every front end with both kernels on 1 and 4 VPs; without KEEL_SOAK
// those that are given: over all tests, each front end meets each kernel and number.
func machines(ci ...harness.Machine) []machine {
	var all []machine
	for _, m := range harness.Machines(Fronts(), ci...) {
		all = append(all, machine{m})
	}
	return all
}

// The machines of CI.
var (
	virtio61x1   = harness.Machine{Front: FrontVirtioSCSI, Kernel: "6.1", VPs: 1}
	virtio61x4   = harness.Machine{Front: FrontVirtioSCSI, Kernel: "6.1", VPs: 4}
	virtio510x1  = harness.Machine{Front: FrontVirtioSCSI, Kernel: "5.10", VPs: 1}
	storvsc61x1  = harness.Machine{Front: FrontStorVSC, Kernel: "6.1", VPs: 1}
	storvsc61x4  = harness.Machine{Front: FrontStorVSC, Kernel: "6.1", VPs: 4}
	virtioSNP    = harness.Machine{Front: FrontVirtioSCSI, Kernel: "6.1", VPs: 4, Isolation: "snp"}
	storvscTDX   = harness.Machine{Front: FrontStorVSC, Kernel: "5.10", VPs: 1, Isolation: "tdx"}
	storvsc510x1 = harness.Machine{Front: FrontStorVSC, Kernel: "5.10", VPs: 1}
)

// flags are those of a run of the machine with disks and a script.
func (m machine) flags(disks []string, script string, params ...string) []string {
	g := guests[m.Kernel]
	return append(m.base(disks), "--initrd", g.Tools, "--append", harness.ScriptCmdline(g.Modules(m.Front), script, params...))
}

func (m machine) base(disks []string) []string {
	flags := append(m.Flags(), "--kernel", guests[m.Kernel].Kernel)
	for _, d := range disks {
		flags = append(flags, "--disk", m.disk(d))
	}
	return flags
}

// disk returns the value of --disk for a file and what else was asked of it.
func (m machine) disk(d string) string {
	file, rest, _ := strings.Cut(d, ",")
	if rest != "" {
		rest = "," + rest
	}
	return file + ",front=" + m.Front + rest
}

// script runs a script to its end and returns the console. Checks must have passed.
func (m machine) script(t *testing.T, disks []string, script string, params []string, checks ...string) string {
	t.Helper()
	r := tool.Start(t, m.flags(disks, script, params...)...)
	if report := r.Wait(t, handoff.OutcomePoweroff); len(report.Warnings) > 0 {
		t.Errorf("warnings: %q", report.Warnings)
	}
	return judge(t, r, checks...)
}

// judge checks what a script that came to its end has said.
func judge(t *testing.T, r *harness.Run, checks ...string) string {
	t.Helper()
	for _, note := range r.Judge(t, append([]string{"modules"}, checks...)...).Notes {
		t.Log(note)
	}
	return r.Console()
}

// detail returns what a check said.
func detail(t *testing.T, console, check string) string {
	t.Helper()
	for _, r := range guest.Parse(console).Results {
		if r.Name == check {
			return r.Detail
		}
	}
	return ""
}

// image makes an empty image of that many MiB.
func image(t *testing.T, mib int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := CreateImage(path, int64(mib)<<20); err != nil {
		t.Fatal(err)
	}
	return path
}
