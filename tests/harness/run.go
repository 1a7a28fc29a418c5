package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/boot/qemu"
)

// Patience separates a run that hangs from a busy machine. No test waits so long
// for anything that it expects.
const Patience = 15 * time.Minute

// Run is a "keel run" under way.
type Run struct {
	Cmd   *exec.Cmd
	Name  string        // of the VM, unique; in the command line of all its processes
	Ended chan struct{} // closed when the tool has ended
	// Patience is how long Wait waits. A test that knows of a long run sets it.
	Patience time.Duration

	stderr bytes.Buffer
	dir    string
}

// Files of a run in its folder.
const (
	fileConsole = "console"
	fileLog     = "log"
	fileReport  = "report.json"
	fileVTL2    = "vtl2"
	dirTemp     = "tmp"
)

// Start starts a run without a terminal. The image is the release image, the console a
// file and the name unique, unless the flags say otherwise.
func (tool *Tool) Start(t *testing.T, flags ...string) *Run {
	t.Helper()
	return tool.start(t, nil, flags)
}

func (tool *Tool) start(t *testing.T, tty *os.File, flags []string) *Run {
	t.Helper()
	r := &Run{
		Name:  fmt.Sprintf("keel-test-%d-%d", os.Getpid(), time.Now().UnixNano()),
		Ended: make(chan struct{}), Patience: Patience,
		dir: t.TempDir(),
	}
	if i := slices.Index(flags, "--name"); i >= 0 && i+1 < len(flags) {
		r.Name = flags[i+1]
	}
	if err := os.Mkdir(r.file(dirTemp), 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"run", "--image", tool.Image, "--name", r.Name, "--log", r.file(fileLog), "--json", r.file(fileReport),
		"--vtl2-log", r.file(fileVTL2),
	}
	if tty == nil {
		args = append(args, "--console", r.file(fileConsole))
	}
	r.Cmd = exec.Command(tool.Path, append(args, flags...)...)
	r.Cmd.Env = append(os.Environ(), "TMPDIR="+r.file(dirTemp))
	r.Cmd.Stderr = &r.stderr
	if tty != nil {
		r.Cmd.Stdin, r.Cmd.Stdout = tty, tty
	}
	if err := r.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = r.Cmd.Wait() // the status is in ProcessState
		close(r.Ended)
	}()
	t.Cleanup(func() { r.finish(t) })
	return r
}

func (r *Run) file(name string) string { return filepath.Join(r.dir, name) }

// Console returns what the guest has printed so far.
func (r *Run) Console() string { return r.text(fileConsole) }

// Log returns what the paravisor has logged so far.
func (r *Run) Log() string { return r.text(fileLog) }

// Outputs are the files into which a run writes: console, logs and report.
func (r *Run) Outputs() []string {
	return []string{r.file(fileConsole), r.file(fileLog), r.file(fileVTL2), r.file(fileReport)}
}

// Faults returns what the VTL2 kernel said of devices that reached for memory that is
// not theirs (drivers/iommu of Linux: "DMAR: ... fault", "AMD-Vi: Event logged").
func (r *Run) Faults() []string {
	var faults []string
	for line := range strings.Lines(r.text(fileVTL2)) {
		if strings.Contains(line, "DMAR: ") && strings.Contains(line, "fault") || strings.Contains(line, "AMD-Vi: Event logged") {
			faults = append(faults, strings.TrimSpace(line))
		}
	}
	return faults
}

// Stderr returns what the tool said, without the line with which it greets the
// user of a terminal. Preconditions: Ended is closed.
func (r *Run) Stderr() string {
	said := r.stderr.String()
	if strings.HasPrefix(said, greeting) {
		_, said, _ = strings.Cut(said, "\n")
	}
	return said
}

// greeting begins the line with which the tool greets the user of a terminal.
const greeting = "keel: starting"

func (r *Run) text(name string) string {
	b, _ := os.ReadFile(r.file(name)) // a file that is not there yet is empty
	return string(b)
}

// Until waits for a condition of a run that goes on.
func (r *Run) Until(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.After(Patience); !met(); {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-r.Ended:
			if !met() {
				t.Fatalf("the run ended without %s", what)
			}
		case <-deadline:
			t.Fatalf("no %s within %v", what, Patience)
		}
	}
}

// Wait waits for the end of the run and returns the report. It checks that the
// tool ended as wanted, with one line on stderr unless the guest powered off, and
// left nothing behind.
func (r *Run) Wait(t *testing.T, want handoff.Outcome) qemu.Report {
	t.Helper()
	select {
	case <-r.Ended:
	case <-time.After(r.Patience):
		t.Fatalf("the run did not end within %v", r.Patience)
	}
	if got := r.Cmd.ProcessState.ExitCode(); got != want.ExitCode() {
		t.Errorf("exit status %d, want %d (%s)", got, want.ExitCode(), want)
	}
	said := r.Stderr()
	if want == handoff.OutcomePoweroff && said != "" {
		t.Errorf("stderr has %q", said)
	}
	if want != handoff.OutcomePoweroff && (strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "keel: ")) {
		t.Errorf("stderr is not one line: %q", said)
	}
	r.CheckLeftovers(t)
	report := r.Report(t)
	if report.Outcome != want || report.ExitCode != want.ExitCode() {
		t.Errorf("the report says %s, %d, want %s, %d", report.Outcome, report.ExitCode, want, want.ExitCode())
	}
	return report
}

// Report returns the report of a run that has ended.
func (r *Run) Report(t *testing.T) qemu.Report {
	t.Helper()
	var report qemu.Report
	if err := json.Unmarshal([]byte(r.text(fileReport)), &report); err != nil {
		t.Fatalf("report: %v", err)
	}
	return report
}

// CheckOracle wants that as many instructions were compared (keel run --oracle), and that
// none differed.
func (r *Run) CheckOracle(t *testing.T, least float64) {
	t.Helper()
	oracle, _ := r.Report(t).State["oracle"].(map[string]any)
	compared, _ := oracle["compared"].(float64) // JSON has no integers
	if different, ok := oracle["different"].(float64); !ok || different != 0 || compared < least {
		t.Errorf("oracle: %v", oracle)
	}
	t.Logf("oracle: %v", oracle)
}

// finish ends a run that a failed test left behind and shows what it said.
func (r *Run) finish(t *testing.T) {
	t.Helper()
	_ = r.Cmd.Process.Signal(syscall.SIGTERM) // fails when it has ended
	select {
	case <-r.Ended:
	case <-time.After(10 * time.Second):
		_ = r.Cmd.Process.Kill()
		<-r.Ended
	}
	if t.Failed() {
		t.Logf("%q: %v\nstderr: %s\nreport: %s\nend of the console:\n%q\nend of the log:\n%s\nend of VTL2's kernel log:\n%s",
			r.Cmd.Args, r.Cmd.ProcessState, r.Stderr(), r.text(fileReport),
			tail(r.Console(), 1000), tail(r.Log(), 4000), tail(r.text(fileVTL2), 8000))
	}
}

// tail returns the last bytes of a text.
func tail(s string, most int) string { return s[max(0, len(s)-most):] }
