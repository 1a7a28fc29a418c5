package tpm

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

	"keel/boot/handoff"
	"keel/kernelcfg"
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

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "keel-tpm-tests-")
	if err == nil {
		defer os.RemoveAll(dir)
		tool, err = harness.Build(ctx, root, dir)
	}
	for _, kernel := range kernelcfg.GuestKernels() {
		if err == nil {
			guests[kernel], err = MakeGuest(ctx, dir, kernel)
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

// The machines of CI: both interfaces, kernels and numbers of VPs.
var (
	crbNewOne  = machine{"crb", "6.1", 1}
	tisOldFour = machine{"tis", "5.10", 4}
)

// machines lists every interface with both kernels on 1 and 4 VPs; without KEEL_SOAK
// those that are given.
func machines(ci ...machine) []machine {
	if soak() == 0 {
		return ci
	}
	var all []machine
	for _, front := range []string{"crb", "tis"} {
		for _, kernel := range []string{"6.1", "5.10"} {
			for _, vps := range []int{1, 4} {
				all = append(all, machine{front, kernel, vps})
			}
		}
	}
	return all
}

// flags are those of a run of the machine with a script.
func (m machine) flags(script string, params ...string) []string {
	return append(guests[m.kernel].Flags(script, params...),
		"--tpm", m.front, "--vps", strconv.Itoa(m.vps), "--timeout", harness.Patience.String())
}

// script runs a script to its end and returns its notes. Checks must have passed.
func (m machine) script(t *testing.T, flags []string, checks ...string) (*harness.Run, Said) {
	t.Helper()
	r := tool.Start(t, flags...)
	if report := r.Wait(t, handoff.OutcomePoweroff); len(report.Warnings) > 0 {
		t.Errorf("warnings: %q", report.Warnings)
	}
	for _, c := range r.Judge(t, checks...).Results {
		t.Log(c.Name, c.Detail)
	}
	return r, said(t, r)
}

// said returns the notes of a run.
func said(t *testing.T, r *harness.Run) Said {
	t.Helper()
	s, err := Read(r.Console())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
