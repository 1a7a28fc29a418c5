package paravisor

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/paravisor/config"
	"keel/vtl"
)

// TestTold: the host of a confidential guest learns why it ended, and nothing of what it
// did; the host of another one learns both.
func TestTold(t *testing.T) {
	crash := vtl.End{Kind: vtl.EndCrash, Message: "VP 0: triple fault", Detail: "at RIP 0x1234"}
	defect := errors.New("VP 0 at RIP 0x1234")
	failure := &handoff.Failure{Outcome: handoff.OutcomeHostRefused, Cause: "strict mode", Remedy: "none"}
	for _, isolation := range []config.Isolation{config.IsolationNone, config.IsolationSNP, config.IsolationTDX} {
		k := &keel{config: &config.Config{Isolation: isolation}, env: Environment{Log: slog.New(slog.DiscardHandler)}}
		plain := isolation == config.IsolationNone
		for _, said := range []string{k.told(crash), k.discreet(defect).Error()} {
			if strings.Contains(said, "0x1234") != plain || strings.Contains(said, "withheld") == plain {
				t.Errorf("%v: %q", isolation, said)
			}
		}
		if said := k.told(crash); !strings.HasPrefix(said, crash.Message) {
			t.Errorf("%v: %q", isolation, said)
		}
		if said := k.told(vtl.End{Kind: vtl.EndStopped, Message: "strict mode"}); said != "strict mode" {
			t.Errorf("%v: %q", isolation, said)
		}
		if err := k.discreet(failure); !errors.Is(err, failure) {
			t.Errorf("%v: %v", isolation, err)
		}
	}
}
