package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keel/boot/handoff"
)

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(path, []byte("contents"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := ReadFile(path, "kernel", handoff.OutcomeBadKernel); err != nil || string(b) != "contents" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestUnreadable goes through files that exist in no useful way.
func TestUnreadable(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	huge := filepath.Join(t.TempDir(), "huge")
	if err := os.WriteFile(huge, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, maxPayload+1); err != nil { // sparse
		t.Fatal(err)
	}
	tests := map[string]string{ // path: cause
		filepath.Join(t.TempDir(), "absent"): "no such file",
		t.TempDir():                          "is a directory",
		"/dev/null":                          errEmpty.Error(),
		empty:                                errEmpty.Error(),
		huge:                                 errTooBig.Error(),
	}
	for path, cause := range tests {
		_, err := ReadFile(path, "kernel", handoff.OutcomeBadKernel)
		if OutcomeOf(err) != handoff.OutcomeBadKernel || !strings.Contains(err.Error(), cause) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
