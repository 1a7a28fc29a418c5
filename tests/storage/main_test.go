package storage

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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

// soak returns KEEL_SOAK, 0 when it is unset.
func soak() int {
	n, err := strconv.Atoi(os.Getenv("KEEL_SOAK"))
	if err != nil {
		return 0
	}
	return n
}

// size returns what a slice for CI uses, or the real thing.
func size(ci, whole int) int {
	if soak() > 0 {
		return whole
	}
	return ci
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "keel-storage-tests-")
	if err == nil {
		defer os.RemoveAll(dir)
		tool, err = harness.Build(ctx, root, dir)
	}
	for _, kernel := range kernelcfg.GuestKernels() {
		if err == nil {
			guests[kernel], err = MakeGuest(ctx, root, dir, kernel)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot prepare the boots:", err)
		return 1
	}
	signal.Reset(os.Interrupt, syscall.SIGTERM) // from here on they end the tests at once
	return m.Run()
}

// machine is one row of what has to work.
type machine struct {
	front, kernel string
	vps           int
}

func (m machine) String() string { return fmt.Sprintf("%s/%s/%d", m.front, m.kernel, m.vps) }

// machines lists every front end with both kernels on 1 and 4 VPs. Without KEEL_SOAK
// it lists those of the given index: over them all tests, each front end meets each
// kernel and each number.
func machines(ci ...int) []machine {
	var all []machine
	for _, front := range Fronts() {
		for _, kernel := range []string{"6.1", "5.10"} {
			for _, vps := range []int{1, 4} {
				all = append(all, machine{front, kernel, vps})
			}
		}
	}
	if soak() > 0 {
		return all
	}
	var some []machine
	for _, i := range ci {
		some = append(some, all[i])
	}
	return some
}

// Indices of machines.
const (
	virtio61x1 = iota
	virtio61x4
	virtio510x1
	virtio510x4
	storvsc61x1
	storvsc61x4
	storvsc510x1
	storvsc510x4
)

// flags are those of a run of the machine with disks and a script.
func (m machine) flags(disks []string, script string, params ...string) []string {
	g := guests[m.kernel]
	return append(m.base(disks), "--initrd", g.Tools, "--append", harness.ScriptCmdline(g.Modules(m.front), script, params...))
}

func (m machine) base(disks []string) []string {
	flags := []string{"--kernel", guests[m.kernel].Kernel, "--vps", strconv.Itoa(m.vps), "--timeout", harness.Patience.String()}
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
	return file + ",front=" + m.front + rest
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
