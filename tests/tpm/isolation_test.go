package tpm

import (
	"fmt"
	"path/filepath"
	"testing"

	"keel/boot/handoff"
	"keel/tests/harness"
)

// TestIsolation boots a guest of each kind as a confidential VM with a TPM and a disk,
// every time: none sees what it runs on, and what Keel executes for it KVM does once
// more, and agrees.
func TestIsolation(t *testing.T) {
	t.Parallel()
	for _, kernel := range []string{"6.1", "5.10"} {
		for i, isolation := range []string{"snp", "tdx"} {
			for j, vps := range []int{1, 4} {
				m := machine{harness.Machine{Front: []string{"crb", "tis"}[(i+j)%2], Kernel: kernel, VPs: vps, Isolation: isolation}}
				t.Run(m.String(), func(t *testing.T) {
					t.Parallel()
					disk := filepath.Join(t.TempDir(), "disk.img")
					empty(t, disk, 16<<20)
					r := tool.Start(t, append(m.flags(ScriptConfidential, fmt.Sprintf("vps=%d", vps)), "--disk", disk, "--oracle")...)
					report := r.Wait(t, handoff.OutcomePoweroff)
					r.Judge(t, "processors", "numbers", "measured", "written")
					r.CheckOracle(t, 500)
					if kind, _ := report.State["isolation"].(map[string]any); kind["kind"] != isolation {
						t.Errorf("isolation: %v", kind)
					}
				})
			}
		}
	}
}
