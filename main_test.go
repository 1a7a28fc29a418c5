package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/boot/qemu"
)

// file writes a file of the test and returns its name.
func file(t *testing.T, name, contents string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(contents), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBadCommandLines goes through what is refused before anything starts:
// each is one line with a cause and a remedy, and has its own exit code.
func TestBadCommandLines(t *testing.T) {
	t.Chdir(t.TempDir()) // no checkout, no defaults
	garbage := file(t, "garbage", strings.Repeat("garbage\n", 1000))
	absent := filepath.Join(t.TempDir(), "absent")
	tests := map[string]struct {
		args []string
		want handoff.Outcome
	}{
		"unknown command":     {[]string{"frobnicate"}, handoff.OutcomeUsage},
		"unknown flag":        {[]string{"run", "--frobnicate"}, handoff.OutcomeUsage},
		"argument":            {[]string{"run", "vmlinuz"}, handoff.OutcomeUsage},
		"no number":           {[]string{"run", "--vps", "many"}, handoff.OutcomeUsage},
		"no duration":         {[]string{"run", "--timeout", "90"}, handoff.OutcomeUsage},
		"no size":             {[]string{"run", "--mem", "lots"}, handoff.OutcomeUsage},
		"unknown accelerator": {[]string{"run", "--accel", "hvf"}, handoff.OutcomeUsage},
		"no VP":               {[]string{"run", "--vps", "0"}, handoff.OutcomeBadVPCount},
		"seventeen VPs":       {[]string{"run", "--vps", "17"}, handoff.OutcomeBadVPCount},
		"little memory":       {[]string{"run", "--mem", "62M"}, handoff.OutcomeTooLittleMemory},
		"absent kernel":       {[]string{"run", "--kernel", absent}, handoff.OutcomeBadKernel},
		"garbage as kernel":   {[]string{"run", "--kernel", garbage}, handoff.OutcomeBadKernel},
		"absent initrd":       {[]string{"run", "--kernel", garbage, "--initrd", absent}, handoff.OutcomeBadInitrd},
		"image without file":  {[]string{"image", "show"}, handoff.OutcomeUsage},
		"absent image":        {[]string{"image", "show", absent}, handoff.OutcomeBadImage},
		"garbage as image":    {[]string{"image", "show", garbage}, handoff.OutcomeBadImage},
		"build without tree":  {[]string{"image", "build"}, handoff.OutcomeUsage},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := execute(t.Context(), tt.args)
			if err == nil || qemu.OutcomeOf(err) != tt.want {
				t.Fatalf("%s: %v", qemu.OutcomeOf(err), err)
			}
			if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "; ") {
				t.Errorf("not one line of cause and remedy: %q", err)
			}
		})
	}
}

// TestReportOfRefusal checks that a run which never started writes its report.
func TestReportOfRefusal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report")
	if err := execute(t.Context(), []string{"run", "--vps", "99", "--json", path}); err == nil {
		t.Fatal("99 VPs run")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r qemu.Report
	if err := json.Unmarshal(b, &r); err != nil || r.Outcome != handoff.OutcomeBadVPCount || r.ExitCode != 9 || r.VPs != 99 {
		t.Errorf("%s: %v", b, err)
	}
	err = execute(t.Context(), []string{"run", "--vps", "99", "--json", filepath.Join(path, "below a file")})
	if qemu.OutcomeOf(err) != handoff.OutcomeBadVPCount || !strings.Contains(err.Error(), "--json") {
		t.Errorf("%v", err)
	}
}

// TestHelp checks that the help names every exit code, and that it is no error.
func TestHelp(t *testing.T) {
	for _, o := range []handoff.Outcome{handoff.OutcomePoweroff, handoff.OutcomeGuestCrashed, handoff.OutcomeVMLost} {
		if !strings.Contains(runHelp, " "+strconv.Itoa(o.ExitCode())+"  ") {
			t.Errorf("the help lacks exit code %d", o.ExitCode())
		}
	}
	for _, args := range [][]string{{"--help"}, {"run", "--help"}, {"image", "build", "--help"}} {
		if err := execute(t.Context(), args); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestCheckout(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module keel\n\ngo 1.26\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	below := filepath.Join(dir, "a", "b")
	if err := os.MkdirAll(below, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(below)
	if got, err := checkout(); err != nil || got != dir {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module keelhaul\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := checkout(); err == nil {
		t.Errorf("took %q for a checkout", got)
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(progress{&out})
	log.Debug("details")
	log.Info("compile", "package", "keel/x", "bytes", 7)
	if out.String() != "keel: compile package=keel/x bytes=7\n" {
		t.Errorf("%q", out.String())
	}
}
