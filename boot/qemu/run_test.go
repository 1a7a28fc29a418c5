package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"keel/boot/handoff"
)

func TestGoodRun(t *testing.T) {
	o := fake(t, "good")
	o.Log = filepath.Join(t.TempDir(), "log")
	var out bytes.Buffer
	term, in := pipe(t, &out)
	if _, err := in.WriteString("hello\x01x\n"); err != nil { // no escapes: this is no terminal
		t.Fatal(err)
	}
	r, err := Run(bounded(t), o, term)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"image=image <nil>", "opt/keel/config=config <nil>", "opt/keel/kernel=kernel <nil>", "opt/keel/initrd=initrd <nil>",
		"you said hello\x01x\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("console lacks %q: %q", want, out.String())
		}
	}
	if log, err := os.ReadFile(o.Log); err != nil || string(log) != "a line of the log\n" {
		t.Errorf("log = %q, %v", log, err)
	}
	checkJSON(t, r, `{
  "outcome": "poweroff",
  "exit_code": 0,
  "message": "",
  "vtl2_init_ms": 100,
  "paravisor_start_ms": 200,
  "guest_entry_ms": 300,
  "guest_end_ms": 400,
  "exits": {
    "pio": 7
  },
  "refused": {},
  "warnings": [
    "a warning on two lines"
  ],
  "state": {},
  "vtl2_memory_used_bytes": 1048576,
  "vtl2_memory_peak_bytes": 2097152,
  "image_bytes": 5,
  "name": "fake",
  "vps": 2,
  "guest_memory_bytes": 67108864,
  "accel": "tcg",
  "qemu_version": "7.2.22",
  "resets": 1,
  "bad_events": 0
}
`)
}

func checkJSON(t *testing.T, r *Report, want string) {
	t.Helper()
	got, err := r.JSON()
	if err != nil || string(got) != want {
		t.Errorf("report: %v\n%s", err, got)
	}
}

func TestLastWords(t *testing.T) {
	o := fake(t, "overtakes")
	var out bytes.Buffer
	term, _ := pipe(t, &out)
	if _, err := Run(bounded(t), o, term); err != nil || out.String() != "last words" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// TestEnds goes through the ways in which a run can end.
func TestEnds(t *testing.T) {
	tests := []struct {
		scenario string
		change   func(*Options)
		outcome  handoff.Outcome
		message  string // part of it
	}{
		{"dies", nil, handoff.OutcomeVMLost, "the VM ended without a word; QEMU said: qemu: something [31mbroke; run again"},
		{"panics", nil, handoff.OutcomeVMLost, "its kernel said: Kernel panic - not syncing: no init found;"},
		{"refuses", nil, handoff.OutcomeHostRefused, "the boot shim refuses this VM: the host gave no VP count;"},
		{"crash", nil, handoff.OutcomeGuestCrashed, "triple fault at ]0;RIP 0x10"},
		{"garbage", nil, handoff.OutcomePoweroff, ""},
		{"runs", func(o *Options) { o.Timeout = 300 * time.Millisecond }, handoff.OutcomeTimeout, "still ran after --timeout 300ms"},
		{"deaf", func(o *Options) { o.Timeout = 300 * time.Millisecond }, handoff.OutcomeTimeout, "still ran after --timeout 300ms"},
		{"runs", func(o *Options) { o.Console = "/nonexistent/file" }, handoff.OutcomeUsage, "cannot write --console"},
		{"runs", func(o *Options) { o.Log = "/nonexistent/file" }, handoff.OutcomeUsage, "cannot write --log"},
		{"runs", func(o *Options) { o.QEMU = "/nonexistent/qemu" }, handoff.OutcomeHostRefused, "apt-get install qemu-system-x86"},
		{"runs", func(o *Options) { o.Loader = LoaderIGVM }, handoff.OutcomeHostRefused, "use --loader pvh"},
		{"runs", func(o *Options) { o.VPs = 0 }, handoff.OutcomeBadVPCount, "ask for 1 to 16"},
	}
	for _, tt := range tests {
		t.Run(tt.scenario+"/"+string(tt.outcome), func(t *testing.T) {
			o := fake(t, tt.scenario)
			if tt.change != nil {
				tt.change(o)
			}
			term, _ := pipe(t, io.Discard)
			r, err := Run(bounded(t), o, term)
			if r.Outcome != tt.outcome || !strings.Contains(r.Message, tt.message) || r.ExitCode != tt.outcome.ExitCode() {
				t.Errorf("%s, exit code %d, %q", r.Outcome, r.ExitCode, r.Message)
			}
			if (err == nil) != (tt.outcome == handoff.OutcomePoweroff) || strings.ContainsAny(r.Message, "\n\x1b") {
				t.Errorf("error %v, message %q", err, r.Message)
			}
			if tt.scenario == "garbage" && r.BadEvents != 6 {
				t.Errorf("%d bad events", r.BadEvents)
			}
			if tt.scenario == "runs" && tt.outcome == handoff.OutcomeTimeout && r.Exits[`{"command":"report"}`] != 1 {
				t.Errorf("no last report: %v", r.Exits)
			}
		})
	}
}

func TestConsoleFile(t *testing.T) {
	o := fake(t, "runs")
	o.Console, o.Timeout = filepath.Join(t.TempDir(), "console"), 2*time.Second
	term, _ := pipe(t, writerFunc(func([]byte) (int, error) { return 0, errors.New("the terminal is not the console") }))
	if r, _ := Run(bounded(t), o, term); r.Outcome != handoff.OutcomeTimeout {
		t.Fatalf("%s: %s", r.Outcome, r.Message)
	}
	if b, err := os.ReadFile(o.Console); err != nil || !strings.HasPrefix(string(b), "pid ") {
		t.Errorf("console file: %q, %v", b, err)
	}
}

func TestQuit(t *testing.T) {
	stop := errors.New("terminated signal received")
	tests := map[string]struct {
		out     func(cancel context.CancelCauseFunc) io.Writer
		message string
	}{
		"signal": {func(cancel context.CancelCauseFunc) io.Writer {
			return writerFunc(func(b []byte) (int, error) { cancel(stop); return len(b), nil })
		}, "ended: terminated signal received"},
		"reader gone": {func(context.CancelCauseFunc) io.Writer {
			return writerFunc(func([]byte) (int, error) { return 0, syscall.EPIPE })
		}, "nobody takes the console output any more: broken pipe"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := fake(t, "runs")
			ctx, cancel := context.WithCancelCause(bounded(t))
			defer cancel(nil)
			term, _ := pipe(t, tt.out(cancel))
			if r, _ := Run(ctx, o, term); r.Outcome != handoff.OutcomeQuit || r.Message != tt.message {
				t.Errorf("%s: %s", r.Outcome, r.Message)
			}
		})
	}
}

// TestKilledLauncher kills the launcher as nothing can prevent, and looks for
// what it left behind.
func TestKilledLauncher(t *testing.T) {
	fake(t, "deaf")
	t.Setenv(roleVar, "launcher")
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	launcher := exec.Command(os.Args[0])
	launcher.Dir = dir
	out, err := launcher.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := launcher.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(line), "pid "))
	if err != nil || !alive(pid) {
		t.Fatalf("%q: %v", line, err)
	}
	if err := launcher.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = launcher.Wait() // killed
	for deadline := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("QEMU outlived its launcher")
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// alive tells whether a process runs; one that nobody reaped does not.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, state, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestReportOfFailure checks that a run which never started has a report, too.
func TestReportOfFailure(t *testing.T) {
	r := &Report{}
	r.Conclude(failure(handoff.OutcomeBadKernel, "cause", "remedy"))
	b, err := r.JSON()
	var m map[string]any
	if err != nil || json.Unmarshal(b, &m) != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if state, ok := m["state"].(map[string]any); !ok || len(state) != 0 {
		t.Errorf("state: %v", m["state"])
	}
	if m["outcome"] != "bad-kernel" || m["exit_code"] != 3.0 || m["message"] != "cause; remedy" || m["guest_entry_ms"] != nil {
		t.Errorf("%v", m)
	}
}
