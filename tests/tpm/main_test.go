package tpm

import (
	"context"
	"os"
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

// machine is a machine whose front is the interface of its TPM.
type machine struct{ harness.Machine }

// The machines of CI: both interfaces, kernels and numbers of VPs.
var (
	crbNewOne  = harness.Machine{Front: "crb", Kernel: "6.1", VPs: 1}
	tisOldOne  = harness.Machine{Front: "tis", Kernel: "5.10", VPs: 1}
	crbOldSNP  = harness.Machine{Front: "crb", Kernel: "5.10", VPs: 1, Isolation: "snp"}
	tisTDX     = harness.Machine{Front: "tis", Kernel: "5.10", VPs: 1, Isolation: "tdx"}
	crbSNP     = harness.Machine{Front: "crb", Kernel: "6.1", VPs: 4, Isolation: "snp"}
	tisOldFour = harness.Machine{Front: "tis", Kernel: "5.10", VPs: 4}
)

// machines lists every interface with both kernels on 1 and 4 VPs; without KEEL_SOAK
// those that are given.
func machines(ci ...harness.Machine) []machine {
	var all []machine
	for _, m := range harness.Machines([]string{"crb", "tis"}, ci...) {
		all = append(all, machine{m})
	}
	return all
}

// flags are those of a run of the machine with a script.
func (m machine) flags(script string, params ...string) []string {
	return append(append(guests[m.Kernel].Flags(script, params...), "--tpm", m.Front), m.Flags()...)
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
