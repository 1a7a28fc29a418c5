package handoff

import (
	"errors"
	"strings"
	"testing"
)

func TestParseKeyServer(t *testing.T) {
	for s, want := range map[string]string{
		"localhost:7500": "tcp", "[::1]:7500": "tcp", ":0": "tcp", "/run/keys": "unix", "./keys:1": "unix", "@keel/keys": "unix",
	} {
		if network, address, err := ParseKeyServer(s); network != want || address != s || err != nil {
			t.Errorf("%q: %q, %q, %v", s, network, address, err)
		}
	}
	for _, s := range []string{"", "localhost", "localhost:", "localhost:http", "localhost:65536", "a:1:2", "/", "@", "/" + strings.Repeat("a", 107), "/a\x00b"} {
		_, _, err := ParseKeyServer(s)
		f, ok := errors.AsType[*Failure](err)
		if !ok || f.Outcome != OutcomeUsage || f.Remedy == "" || strings.Contains(f.Error(), "\x00") {
			t.Errorf("%q: %v", s, err)
		}
	}
}
