package vtpm

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func TestRepeatable(t *testing.T) {
	const digest = "00000001 000b 0000000000000000000000000000000000000000000000000000000000000000"
	tests := map[string]struct {
		command string
		held    int
		want    bool
	}{
		"password":        {"8002 00000041 00000182 00000010 00000009 40000009 0000 00 0000" + digest, 0, true},
		"longer password": {"8002 00000042 00000182 00000010 0000000a 40000009 0000 00 0001 61" + digest, 0, true},
		"the last":        {"8002 00000041 00000182 00000010 00000009 40000009 0000 00 0000" + digest, maxRepeats - 1, true},
		"too many":        {"8002 00000041 00000182 00000010 00000009 40000009 0000 00 0000" + digest, maxRepeats, false},
		"HMAC session":    {"8002 00000041 00000182 00000010 00000009 02000000 0000 00 0000" + digest, 0, false},
		"a nonce":         {"8002 00000041 00000182 00000010 00000009 40000009 0001 00 0000" + digest, 0, false},
		"two sessions":    {"8002 0000004a 00000182 00000010 00000012 40000009 0000 00 0000 02000000 0000 00 0000" + digest, 0, false},
		"no session":      {"8001 00000041 00000182 00000010 00000009 40000009 0000 00 0000" + digest, 0, false},
		"PCR_Event":       {"8002 00000041 0000013c 00000010 00000009 40000009 0000 00 0000" + digest, 0, false},
		"truncated":       {"8002 00000041 00000182 00000010 00000009 40000009 0000 00 00", 0, false},
		"long":            {"8002 00000041 00000182 00000010 00000009 40000009 0000 00 0000" + strings.Repeat("00", maxRepeatSize), 0, false},
		"empty":           {"", 0, false},
	}
	for name, tt := range tests {
		command, err := hex.DecodeString(strings.ReplaceAll(tt.command, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		tpm := &TPM{repeats: make([]repeat, tt.held)}
		if got := tpm.repeatable(command); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// FuzzRepeatable: no command makes Keel read beyond it.
func FuzzRepeatable(f *testing.F) {
	f.Add([]byte{0x80, 2, 0, 0, 0, 10, 0, 0, 1, 0x82})
	f.Fuzz(func(t *testing.T, b []byte) {
		if (&TPM{}).repeatable(b) && !bytes.HasPrefix(b, []byte{0x80, 2}) {
			t.Error("a command without sessions")
		}
	})
}
