package boot

import (
	"fmt"
	"testing"

	"keel/boot/handoff"
	"keel/tests/guest"
	"keel/tests/harness"
)

// isolated are the guests that run as confidential VMs. None of them knows it. Those
// marked ci run every time, KEEL_SOAK runs all.
var isolated = []struct {
	isolation, kernel string
	vps               int
	ci                bool
}{
	{"snp", "5.10", 4, false},
	{"tdx", "6.1", 4, false},
	{"snp", "6.1", 4, true},
	{"tdx", "5.10", 4, false},
	{"tdx", "6.1", 1, false},
	{"snp", "5.10", 1, false},
	{"tdx", "5.10", 1, true},
	{"snp", "6.1", 1, false},
}

// TestIsolation: guests on an emulated SNP machine and TDX module pass the checks of all
// others. What Keel executes for them KVM does once more, and agrees.
func TestIsolation(t *testing.T) {
	t.Parallel()
	for _, m := range isolated {
		if !m.ci && !harness.Soak() {
			continue
		}
		t.Run(fmt.Sprintf("%s/%s/%d", m.isolation, m.kernel, m.vps), func(t *testing.T) {
			t.Parallel()
			checks := guest.Checks(m.vps)
			r := tool.Start(t, append(programFlags(m.kernel, m.vps, "", checks...), "--isolation", m.isolation, "--oracle")...)
			report := r.Wait(t, handoff.OutcomePoweroff)
			if err := guest.Parse(r.Console()).Check(checks...); err != nil {
				t.Error(err)
			}
			r.CheckOracle(t, 500)
			if report.Exits["mmio"] != 0 || report.Exits["memory-fault"] < 1000 || report.Resets != 0 {
				t.Errorf("exits %v, %d resets: want memory faults and no accesses that KVM executed", report.Exits, report.Resets)
			}
			isolation, _ := report.State["isolation"].(map[string]any)
			machine, _ := isolation["machine"].(map[string]any)
			large, _ := isolation["accepted_large"].(float64) // JSON has no integers
			if isolation["kind"] != m.isolation || large < 20 || machine["emulated"] != true || machine["lost_exits"] != 0.0 {
				t.Errorf("isolation: %v", isolation)
			}
			t.Logf("isolation: %v", isolation)
		})
	}
}
