package main

import (
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/boot/qemu"
)

// TestOwnerFlags: keys that are malformed end the build before it begins, in one line
// that names the flag.
func TestOwnerFlags(t *testing.T) {
	const age = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z" // the point zero
	for _, args := range [][]string{
		{"--owner-recipient", "age1"},
		{"--owner-recipient", age},
		{"--owner-recipient", "AGE-SECRET-KEY-1QQQ"},
		{"--owner-signer", file(t, "key.pub", "ssh-rsa AAAA\n")},
		{"--owner-signer", t.TempDir() + "/none"},
	} {
		_, err := runImage(t, append([]string{"build", "--out", t.TempDir()}, args...)...)
		if qemu.OutcomeOf(err) != handoff.OutcomeUsage || !strings.HasPrefix(err.Error(), args[0]) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", args, err)
		}
	}
}
