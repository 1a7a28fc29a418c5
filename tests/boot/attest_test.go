package boot

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/tests/harness"
)

// TestAttest verifies confidential guests while they run, and refuses what is not right
// about them, each for its own reason.
func TestAttest(t *testing.T) {
	t.Parallel()
	for _, isolation := range []string{"snp", "tdx"} {
		if isolation == "snp" && !harness.Soak() {
			continue // KEEL_SOAK runs both
		}
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			s := shell(t, "--isolation", isolation, "--tpm", "crb")
			saved := filepath.Join(t.TempDir(), "evidence")
			nonce := strings.Repeat("5a", 32)
			right := []string{"attest", s.Name, "--image", tool.Image, "--allow-emulated"}
			for line := range strings.Lines(keelTool(t, handoff.OutcomePoweroff, append(right, "--nonce", nonce, "--out", saved)...)) {
				if !strings.HasPrefix(line, "EMULATED") {
					t.Errorf("a line does not say that it is emulated: %q", line)
				}
			}
			var result struct {
				Claim struct{ EK, AK, Config [32]byte }
			}
			if err := json.Unmarshal([]byte(keelTool(t, handoff.OutcomePoweroff, append(right, "--json")...)), &result); err != nil {
				t.Fatal(err)
			}
			if none := [32]byte{}; result.Claim.EK == none || result.Claim.AK == none || result.Claim.Config == none {
				t.Errorf("a claim without keys or configuration: %+v", result)
			}

			offline := []string{"attest", "--evidence", saved, "--image", tool.Image}
			keelTool(t, handoff.OutcomePoweroff, append(offline, "--nonce", nonce, "--allow-emulated")...)
			for reason, args := range map[string][]string{
				"emulated":    append(offline, "--nonce", nonce),
				"nonce":       append(offline, "--nonce", strings.Repeat("a5", 32), "--allow-emulated"),
				"measurement": {"attest", "--evidence", saved, "--nonce", nonce, "--image", tool.Debug(t), "--allow-emulated"},
			} {
				if said := keelTool(t, handoff.OutcomeBadEvidence, args...); !strings.Contains(said, reason) {
					t.Errorf("refused, but not for the %s: %s", reason, said)
				}
			}
			raw, err := os.ReadFile(saved)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(saved, raw[:len(raw)-len(raw)/3], 0o600); err != nil {
				t.Fatal(err)
			}
			keelTool(t, handoff.OutcomeBadEvidence, append(offline, "--nonce", nonce, "--allow-emulated")...)
			s.Send(t, "poweroff\r")
			s.Wait(t, handoff.OutcomePoweroff)
		})
	}
}
