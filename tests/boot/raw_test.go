package boot

import (
	"fmt"
	"testing"

	"keel/boot/handoff"
	"keel/tests/guest"
)

// TestRawFaults: guests whose every access to a device Keel executes itself, as it must
// beneath a TEE, pass the same checks. KVM runs the same once more, and agrees.
func TestRawFaults(t *testing.T) {
	t.Parallel()
	for _, m := range []row{{kernel: "6.1", vps: 1}, {kernel: "5.10", vps: 2}} {
		t.Run(fmt.Sprintf("%s/%d", m.kernel, m.vps), func(t *testing.T) {
			t.Parallel()
			checks := guest.Checks(m.vps)
			r := tool.Start(t, append(programFlags(m.kernel, m.vps, "", checks...), "--oracle")...)
			report := r.Wait(t, handoff.OutcomePoweroff)
			if err := guest.Parse(r.Console()).Check(checks...); err != nil {
				t.Error(err)
			}
			oracle, _ := report.State["oracle"].(map[string]any)
			compared, _ := oracle["compared"].(float64) // JSON has no integers
			if different, ok := oracle["different"].(float64); !ok || different != 0 || compared < 500 {
				t.Errorf("oracle: %v", oracle)
			}
			t.Logf("oracle: %v", oracle)
			if report.Exits["mmio"] != 0 || report.Exits["memory-fault"] < 1000 || report.Resets != 0 {
				t.Errorf("exits %v, %d resets: want memory faults and no accesses that KVM executed", report.Exits, report.Resets)
			}
		})
	}
}
