package vtpm_test

import (
	"testing"

	"github.com/google/go-tpm/tpm2"

	"keel/diag/inspect"
	"keel/vtpm/vtpmtest"
)

// TestInspect: the tree says what the counters say, and the host of a confidential
// machine sees nothing of what the guest does.
func TestInspect(t *testing.T) {
	tpm, _ := vtpmtest.New(t, &vtpmtest.Store{})
	c := vtpmtest.Conn{TPM: tpm}
	startup(t, c, tpm2.TPMSUClear)
	extend(t, c, 16)
	extend(t, c, 16)
	for path, want := range map[string]any{
		"commands/0x144": uint64(1), "commands/0x182": uint64(2), "failures": uint64(0), "starts": uint64(1),
		"commits": tpm.Stats().Commits, "permanent": uint64(tpm.Stats().Permanent),
	} {
		f, err := inspect.Look(tpm, path, 1)
		if err != nil || f.Value != want || f.Doc == "" {
			t.Errorf("%s: %+v, %v, want %v", path, f, err, want)
		}
	}
	f, err := inspect.Look(tpm, "commit_latency", 1)
	if err != nil {
		t.Fatal(err)
	}
	h, _ := f.Value.(inspect.Histogram)
	sum := uint64(0)
	for _, n := range h.Counts {
		sum += n
	}
	if sum != tpm.Stats().Commits || len(h.Counts) != len(h.Bounds)+1 || h.Bounds[0] != 100 {
		t.Errorf("%+v", h)
	}
	root, err := inspect.Look(tpm, "", 9)
	if err != nil {
		t.Fatal(err)
	}
	v, _ := root.Plain(inspect.Public)
	seen, _ := v.(map[string]any)
	for _, hidden := range []string{"failures", "lockouts", "cancels", "permanent", "volatile"} {
		if _, ok := seen[hidden]; ok {
			t.Errorf("%s is public", hidden)
		}
	}
	if list, _ := seen["commands"].(map[string]any); len(list) != 0 {
		t.Errorf("the host sees %v", list)
	}
}
