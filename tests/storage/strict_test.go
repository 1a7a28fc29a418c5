package storage

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/tests/harness"
)

// TestStrict adds a disk while a confidential guest runs in strict mode: it is refused
// and the guest goes on, or the VM ends over it.
func TestStrict(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mode string
		m    harness.Machine
		want handoff.Outcome
		ci   bool
	}{
		{"kill", virtioSNP, handoff.OutcomeStrict, true},
		{"count", storvscTDX, handoff.OutcomePoweroff, true},
		{"kill", storvscTDX, handoff.OutcomeStrict, false},
		{"count", virtioSNP, handoff.OutcomePoweroff, false},
	} {
		if !tt.ci && !harness.Soak() {
			continue
		}
		m := machine{tt.m}
		t.Run(tt.mode+"/"+m.String(), func(t *testing.T) {
			t.Parallel()
			r := tool.Start(t, append(m.flags([]string{image(t, 64)}, ScriptVerify, "mib=64"), "--strict", tt.mode)...)
			r.Until(t, "a guest that runs", func() bool { return r.Console() != "" })
			ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
			defer cancel()
			out, err := exec.CommandContext(ctx, tool.Path, "run", "--name", r.Name, "--disk-add", m.disk(image(t, 32))).CombinedOutput()
			if err == nil {
				t.Errorf("the disk was added: %s", out)
			}
			report := r.Wait(t, tt.want)
			if report.Refused["strict-device"] == 0 {
				t.Errorf("refused: %v", report.Refused)
			}
			if tt.want == handoff.OutcomePoweroff {
				judge(t, r, "verify")
				if !strings.Contains(string(out), "strict mode") {
					t.Errorf("the disk was refused with %q", out)
				}
			} else if !strings.Contains(report.Message, `"device"`) {
				t.Errorf("the VM ended with %q", report.Message)
			}
			strict, _ := report.State["strict"].(map[string]any)
			if strict["mode"] != tt.mode || strict["refused_device"] == 0.0 || strict["allowed_accept"] == 0.0 {
				t.Errorf("strict: %v", strict)
			}
		})
	}
}
