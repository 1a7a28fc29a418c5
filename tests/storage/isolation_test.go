package storage

import (
	"fmt"
	"testing"

	"keel/boot/handoff"
	"keel/tests/harness"
)

// TestIsolation verifies what confidential guests write. Their disks' controllers reach
// none of their memory: all data goes through Keel's own.
func TestIsolation(t *testing.T) {
	t.Parallel()
	machines := []machine{{virtioSNP}, {storvscTDX}}
	if harness.Soak() {
		machines = nil
		for _, m := range harness.Machines(Fronts()) {
			for _, m.Isolation = range []string{"snp", "tdx"} {
				machines = append(machines, machine{m})
			}
		}
	}
	for _, m := range machines {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			mib := size(16, 64)
			r := tool.Start(t, append(m.flags([]string{image(t, mib)}, ScriptVerify, fmt.Sprintf("mib=%d", mib)), "--tpm", "auto")...)
			report := r.Wait(t, handoff.OutcomePoweroff)
			judge(t, r, "verify")
			isolation, _ := report.State["isolation"].(map[string]any)
			machine, _ := isolation["machine"].(map[string]any)
			if isolation["kind"] != m.Isolation || machine["emulated"] != true {
				t.Errorf("isolation: %v", isolation)
			}
		})
	}
}
