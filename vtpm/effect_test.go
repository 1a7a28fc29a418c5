package vtpm

import (
	"encoding/hex"
	"strings"
	"testing"
)

func TestKeepsState(t *testing.T) {
	const read = "8002 00000023 0000014e"
	tests := map[string]struct {
		command string
		want    bool
	}{
		"GetRandom":               {"8001 0000000c 0000017b 0010", true},
		"GetRandom, audited":      {"8002 0000000c 0000017b 0010", false},
		"PCR_Extend":              {"8002 0000000a 00000182", false},
		"Startup":                 {"8001 0000000c 00000144 0000", false},
		"NV_Read by owner":        {read + "40000001 01800001 00000009 40000009 0000 00 0000 0008 0000", true},
		"NV_Read by platform":     {read + "4000000c 01800001 0000000a 40000009 0000 00 0001 61 0008 0000", true},
		"NV_Read by the index":    {read + "01800001 01800001 00000009 40000009 0000 00 0000 0008 0000", false},
		"NV_Read, HMAC session":   {read + "40000001 01800001 00000009 02000000 0000 00 0000 0008 0000", false},
		"NV_Read, two sessions":   {read + "40000001 01800001 00000012 40000009 0000 00 0000 02000000 0000 00 0000", false},
		"NV_Read, truncated":      {read + "40000001 01800001 00000009 40000009 0000 00 00", false},
		"NV_Read without session": {"8001 00000023 0000014e 40000001 01800001 00000009 40000009 0000 00 0000 0008 0000", false},
		"short":                   {"8001 0000000c 000001", false},
		"empty":                   {"", false},
	}
	for name, tt := range tests {
		b, err := hex.DecodeString(strings.ReplaceAll(tt.command, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := keepsState(b); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// FuzzKeepsState: no command makes Keel read beyond it.
func FuzzKeepsState(f *testing.F) {
	f.Add([]byte{0x80, 2, 0, 0, 0, 10, 0, 0, 1, 0x4E})
	f.Add([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 16})
	f.Fuzz(func(t *testing.T, b []byte) {
		if keepsState(b) && len(b) < headerSize {
			t.Error("a command without a header")
		}
	})
}
