package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/diag/owner"
)

// sealedFile makes an identity, and a file that is encrypted to it.
func sealedFile(t *testing.T, data []byte) (identity, sealed string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r, err := owner.ParseRecipient(id.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := r.Seal(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file(t, "identity", id.String()+"\n"), file(t, "dump.age", b.String())
}

// runOpen runs "keel diag open" and returns what it prints.
func runOpen(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := openCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestOpen(t *testing.T) {
	data := bytes.Repeat([]byte("what the guest knows "), 10000)
	identity, sealed := sealedFile(t, data)
	out := filepath.Join(t.TempDir(), "out")
	if _, err := runOpen(t, "--identity", identity, sealed, out); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if s, err := os.Stat(out); err != nil || s.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", s, err)
	}
	if got, err := runOpen(t, "--identity", identity, sealed, "-"); err != nil || got != string(data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestOpenBad: what does not open leaves no file, and an old one as it was.
func TestOpenBad(t *testing.T) {
	data := bytes.Repeat([]byte("what the guest knows "), 10000)
	identity, sealed := sealedFile(t, data)
	stranger, _ := sealedFile(t, nil)
	whole, err := os.ReadFile(sealed)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 1
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	if err := os.WriteFile(out, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for why, args := range map[string][]string{
		"give --identity":     {sealed, out},
		"no age identity":     {"--identity", file(t, "none", "no key"), sealed, out},
		"to somebody else":    {"--identity", stranger, sealed, out},
		"was cut off":         {"--identity", identity, file(t, "cut", string(whole[:len(whole)-100])), out},
		"is damaged":          {"--identity", identity, file(t, "damaged", string(damaged)), out},
		"no file of age":      {"--identity", identity, identity, out},
		"nothing to open":     {"--identity", identity, filepath.Join(dir, "none"), out},
		"cannot write":        {"--identity", identity, sealed, filepath.Join(dir, "none", "out")},
		"cannot write /dev/f": {"--identity", identity, sealed, "/dev/full/out"},
	} {
		_, err := runOpen(t, args...)
		if qemu.OutcomeOf(err) != handoff.OutcomeUsage || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", why, err)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != "old" {
		t.Errorf("%q, %v", b, err)
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestOpenFull(t *testing.T) {
	identity, sealed := sealedFile(t, make([]byte, 1<<20))
	cmd := openCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{"--identity", identity, sealed, "-"})
	cmd.SetOut(full{})
	if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("%v", err)
	}
}

func TestSignFlags(t *testing.T) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	key := file(t, "key", string(pem.EncodeToMemory(p)))
	if o, err := (&signFlags{}).owner(); o != nil || err != nil {
		t.Errorf("%v, %v", o, err)
	}
	instance := strings.Repeat("0a", owner.InstanceSize)
	o, err := (&signFlags{key, instance}).owner()
	if err != nil || !o.Key.Equal(private) || o.Instance[15] != 10 {
		t.Errorf("%+v, %v", o, err)
	}
	for want, f := range map[string]signFlags{
		"--instance without": {instance: instance}, "--instance \"0a\"": {key, "0a"}, "--owner-key: no usable key": {key: file(t, "k", "x")},
	} {
		if _, err := f.owner(); qemu.OutcomeOf(err) != handoff.OutcomeUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestSealedName(t *testing.T) {
	for path, want := range map[string]string{"dump": "dump.age", "dump.age": "dump.age"} {
		if got := sealedName(path, []byte(owner.Header+"-> X25519")); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
	if got := sealedName("dump", []byte("\x7fELF")); got != "dump" {
		t.Errorf("%s", got)
	}
}
