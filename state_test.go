package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/paravisor/gueststate"
	"keel/vtpm/nv"
)

// stateDisk makes the state disk of a VM that was used, and the file of its key.
func stateDisk(t *testing.T) (path, key string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "tpm")
	if err := os.WriteFile(path, make([]byte, gueststate.MinDisk), 0o600); err != nil {
		t.Fatal(err)
	}
	raw := bytes.Repeat([]byte{5}, gueststate.KeyBytes)
	provider, err := gueststate.HostKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	f, err := gueststate.OpenFile(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := gueststate.Open(f, gueststate.Options{VM: "web", Provider: provider})
	if err != nil {
		t.Fatal(err)
	}
	n, err := nv.Open(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{n.Commit([]byte("engine")), n.Advance(1), n.Commit([]byte("engine, used"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return path, file(t, "key", hex.EncodeToString(raw)+"\n")
}

// state runs "keel state" and returns what it prints.
func state(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	ran := false
	cmd := stateCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.PersistentPreRun = func(*cobra.Command, []string) { ran = true }
	cmd.SetOut(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	if !ran {
		t.Fatalf("%q: %v", args, err)
	}
	if err != nil && (strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "; ")) {
		t.Errorf("not one line of cause and remedy: %q", err)
	}
	return out.String(), err
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStateShow(t *testing.T) {
	path, key := stateDisk(t)
	before := contents(t, path)
	out, err := state(t, "show", path)
	for _, want := range []string{"a VM takes slot A, if its key fits", "slot A: sealed, format 1, sequence 3,", `VM "web", key of host-key`, "slot B: sealed"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v, without %q:\n%s", err, want, out)
		}
	}
	out, err = state(t, "show", "--key", key, path)
	for _, want := range []string{"a VM takes slot A\n", "slot A: valid", "TPM: manufactured (step 1), 12 bytes"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v, without %q:\n%s", err, want, out)
		}
	}
	out, err = state(t, "show", "--json", "--key", key, path)
	var got struct {
		Use    string
		Opened bool
		Slots  []gueststate.Slot
		TPM    struct {
			Engine int `json:"engine_bytes"`
		}
	}
	if err != nil || json.Unmarshal([]byte(out), &got) != nil || got.Use != "A" || !got.Opened || len(got.Slots) != 2 || got.TPM.Engine != 12 {
		t.Errorf("%v: %+v\n%s", err, got, out)
	}
	if strings.Contains(out, "engine, used") || !bytes.Equal(before, contents(t, path)) {
		t.Error("show told or changed too much")
	}
	// One slot damaged, then both.
	damaged := bytes.Clone(before)
	damaged[260] ^= 1
	path = file(t, "one", string(damaged))
	if out, err = state(t, "show", "--key", key, path); err != nil || !strings.Contains(out, "takes slot B; the other one is not intact") {
		t.Errorf("%v\n%s", err, out)
	}
	damaged[gueststate.SlotBytes+260] ^= 1
	path = file(t, "both", string(damaged))
	out, err = state(t, "show", "--key", key, path)
	if qemu.OutcomeOf(err) != handoff.OutcomeBadState || !strings.Contains(out, "no VM starts with it") || !strings.Contains(out, "slot B: damaged") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestStateBackup(t *testing.T) {
	path, _ := stateDisk(t)
	out := filepath.Join(t.TempDir(), "backup")
	if _, err := state(t, "backup", path, out); err != nil || !bytes.Equal(contents(t, path), contents(t, out)) {
		t.Fatal(err)
	}
	if s, err := os.Stat(out); err != nil || s.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", s.Mode(), err)
	}
	if _, err := state(t, "backup", path, out); qemu.OutcomeOf(err) != handoff.OutcomeUsage {
		t.Errorf("over a file: %v", err)
	}
	f, err := gueststate.OpenFile(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := state(t, "backup", path, out+"2"); qemu.OutcomeOf(err) != handoff.OutcomeBadState || !strings.Contains(err.Error(), "locked") {
		t.Errorf("in use: %v", err)
	}
	if _, err := os.Stat(out + "2"); err == nil {
		t.Error("half a backup was left")
	}
}

func TestStateReset(t *testing.T) {
	path, _ := stateDisk(t)
	before := contents(t, path)
	kept := filepath.Join(t.TempDir(), "kept")
	if _, err := state(t, "reset", path); qemu.OutcomeOf(err) != handoff.OutcomeUsage {
		t.Errorf("without a word: %v", err)
	}
	if _, err := state(t, "reset", "--yes", "--backup", path, path); qemu.OutcomeOf(err) != handoff.OutcomeUsage {
		t.Errorf("a backup onto itself: %v", err)
	}
	if !bytes.Equal(before, contents(t, path)) {
		t.Fatal("a reset that was refused changed the disk")
	}
	if _, err := state(t, "reset", "--backup", kept, path); err != nil || !bytes.Equal(before, contents(t, kept)) {
		t.Fatal(err)
	}
	if out, err := state(t, "show", path); err != nil || !strings.Contains(out, "empty: a VM makes a new TPM") {
		t.Errorf("%v\n%s", err, out)
	}
	if !bytes.Equal(contents(t, path), make([]byte, gueststate.MinDisk)) {
		t.Error("something is left")
	}
	if _, err := state(t, "reset", "--yes", kept); err != nil || !bytes.Equal(contents(t, path), contents(t, kept)) {
		t.Error(err)
	}
}

// TestBadStates goes through what the commands refuse.
func TestBadStates(t *testing.T) {
	path, key := stateDisk(t)
	before := contents(t, path)
	dir := t.TempDir()
	absent := filepath.Join(dir, "absent")
	foreign := file(t, "foreign", strings.Repeat("ext4", gueststate.MinDisk/4))
	small := file(t, "small", "KEELSTAT")
	wrong := file(t, "wrong", strings.Repeat("ab", 32))
	tests := map[string]struct {
		args []string
		want handoff.Outcome
		says string
	}{
		"show absent":      {[]string{"show", absent}, handoff.OutcomeBadState, "no such file"},
		"show folder":      {[]string{"show", dir}, handoff.OutcomeBadState, "neither"},
		"show foreign":     {[]string{"show", foreign}, handoff.OutcomeBadState, "no state"},
		"show small":       {[]string{"show", small}, handoff.OutcomeBadState, "4 MiB"},
		"another key":      {[]string{"show", "--key", wrong, path}, handoff.OutcomeBadState, "another key"},
		"absent key":       {[]string{"show", "--key", absent, path}, handoff.OutcomeUsage, "--key"},
		"no key":           {[]string{"show", "--key", small, path}, handoff.OutcomeUsage, "64 hexadecimal"},
		"backup absent":    {[]string{"backup", absent, absent + "2"}, handoff.OutcomeBadState, "no such file"},
		"backup foreign":   {[]string{"backup", foreign, absent}, handoff.OutcomeBadState, "no state"},
		"backup small":     {[]string{"backup", small, absent}, handoff.OutcomeBadState, "size"},
		"backup nowhere":   {[]string{"backup", path, filepath.Join(key, "x")}, handoff.OutcomeUsage, "backup"},
		"reset absent":     {[]string{"reset", "--yes", absent}, handoff.OutcomeBadState, "no such file"},
		"reset foreign":    {[]string{"reset", "--yes", foreign}, handoff.OutcomeBadState, "no state"},
		"reset to nowhere": {[]string{"reset", "--backup", filepath.Join(key, "x"), path}, handoff.OutcomeUsage, "backup"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := state(t, tt.args...); qemu.OutcomeOf(err) != tt.want || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v", qemu.OutcomeOf(err), err)
			}
		})
	}
	if !bytes.Equal(before, contents(t, path)) || !strings.HasPrefix(string(contents(t, foreign)), "ext4ext4") {
		t.Error("something that was refused was changed")
	}
	if _, err := os.Stat(absent); err == nil {
		t.Error("a refused backup was made")
	}
	if code := handoff.OutcomeBadState.ExitCode(); code != 16 {
		t.Errorf("exit code %d", code)
	}
}
