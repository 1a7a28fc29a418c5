package boot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keel/boot/handoff"
	"keel/boot/qemu"
)

// patience is how long a test waits for something that a guest does. It only
// separates a hang from a busy machine.
const patience = 8 * time.Minute

// process is a running "keel run".
type process struct {
	cmd    *exec.Cmd
	name   string // of the VM, unique
	stdin  io.WriteCloser
	out    *screen
	errors bytes.Buffer
	files  struct{ report, log, vtl2, tmp string }
	ended  chan struct{} // closed when the process has ended
}

// screen collects what a guest prints and lets one wait for a part of it.
type screen struct {
	mu      sync.Mutex
	text    bytes.Buffer
	seen    int // what expect has gone past
	changed chan struct{}
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// find returns whether the text that expect has not gone past holds want, and goes
// past it.
func (s *screen) find(want string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := bytes.Index(s.text.Bytes()[s.seen:], []byte(want))
	if i < 0 {
		return false
	}
	s.seen += i + len(want)
	return true
}

// start runs "keel run" with the flags, with pipes in the place of a terminal.
func start(t *testing.T, flags ...string) *process {
	t.Helper()
	return launch(t, false, flags)
}

// launch runs "keel run" on a terminal or on pipes.
func launch(t *testing.T, terminal bool, flags []string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{
		name:  fmt.Sprintf("keel-test-%d-%d", os.Getpid(), time.Now().UnixNano()),
		out:   &screen{changed: make(chan struct{}, 1)},
		ended: make(chan struct{}),
	}
	p.files.report, p.files.log = filepath.Join(dir, "report.json"), filepath.Join(dir, "log")
	p.files.vtl2, p.files.tmp = filepath.Join(dir, "vtl2"), filepath.Join(dir, "tmp")
	if err := os.Mkdir(p.files.tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"run", "--image", built.image, "--name", p.name, "--json", p.files.report, "--log", p.files.log, "--vtl2-log", p.files.vtl2}, flags...)
	p.cmd = exec.Command(built.keel, args...)
	p.cmd.Env = append(os.Environ(), "TMPDIR="+p.files.tmp)
	p.cmd.Stdout, p.cmd.Stderr = p.out, &p.errors
	var err error
	if terminal {
		user, tty := openTerminal(t)
		defer tty.Close()
		p.stdin, p.cmd.Stdin, p.cmd.Stdout = user, tty, tty
		go func() { _, _ = io.Copy(p.out, user) }() // ends with an error when the tool closes the terminal
	} else if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the status is in ProcessState
		close(p.ended)
	}()
	t.Cleanup(func() { p.finish(t) })
	return p
}

// openTerminal returns the two ends of a pseudo terminal (pts(4)).
func openTerminal(t *testing.T) (user, tty *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { user.Close() })
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return user, tty
}

// finish ends a run that a failed test left behind and shows what it said.
func (p *process) finish(t *testing.T) {
	t.Helper()
	select {
	case <-p.ended:
	default:
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(10 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
	}
	if !t.Failed() {
		return
	}
	log, _ := os.ReadFile(p.files.log)
	vtl2, _ := os.ReadFile(p.files.vtl2)
	report, _ := os.ReadFile(p.files.report)
	t.Logf("flags: %q\nexit status: %v\nstderr: %s\nreport: %s\nend of the console:\n%s\nend of the log:\n%s\nend of VTL2's kernel log:\n%s",
		p.cmd.Args, p.cmd.ProcessState, p.errors.String(), report, tail(p.out.String(), 30), tail(string(log), 40), tail(string(vtl2), 100))
}

// tail returns the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.ReplaceAll(text, "\r", ""), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// expect waits until the guest prints want, after what was expected before.
func (p *process) expect(t *testing.T, want string) {
	t.Helper()
	for deadline := time.After(patience); !p.out.find(want); {
		select {
		case <-p.out.changed:
		case <-p.ended:
			if !p.out.find(want) {
				t.Fatalf("the run ended before the guest printed %q", want)
			}
			return
		case <-deadline:
			t.Fatalf("the guest did not print %q within %v", want, patience)
		}
	}
}

// send types on the guest's terminal.
func (p *process) send(t *testing.T, keys string) {
	t.Helper()
	if _, err := io.WriteString(p.stdin, keys); err != nil {
		t.Fatalf("type %q: %v", keys, err)
	}
}

// wait waits for the end of the run and checks how it ended, that the report says
// the same, and that nothing is left behind.
func (p *process) wait(t *testing.T, want handoff.Outcome) qemu.Report {
	t.Helper()
	for deadline := time.After(2 * patience); ; {
		select {
		case <-p.ended:
			return p.judge(t, want)
		case <-p.out.changed:
			// No test makes a guest panic, and a kernel that did would start again.
			if strings.Contains(p.out.String(), "Kernel panic") {
				t.Fatal("the guest kernel panicked")
			}
		case <-deadline:
			t.Fatalf("the run did not end within %v", 2*patience)
		}
	}
}

func (p *process) judge(t *testing.T, want handoff.Outcome) qemu.Report {
	t.Helper()
	if got := p.cmd.ProcessState.ExitCode(); got != want.ExitCode() {
		t.Errorf("exit status %d, want %d (%s)", got, want.ExitCode(), want)
	}
	// On a terminal the tool greets the user first.
	message := p.errors.String()
	if strings.HasPrefix(message, "keel: starting") {
		_, message, _ = strings.Cut(message, "\n")
	}
	if n := strings.Count(message, "\n"); want != handoff.OutcomePoweroff && n != 1 {
		t.Errorf("%d lines on stderr, want one: %q", n, message)
	}
	p.checkLeftovers(t)
	var report qemu.Report
	data, err := os.ReadFile(p.files.report)
	if err == nil {
		err = json.Unmarshal(data, &report)
	}
	if err != nil {
		t.Fatalf("report: %v", err)
	}
	if report.Outcome != want || report.ExitCode != want.ExitCode() {
		t.Errorf("the report says %s, %d, want %s, %d", report.Outcome, report.ExitCode, want, want.ExitCode())
	}
	return report
}

// checkLeftovers fails when a process of the run lives or a temporary file exists.
// The kernel may take a moment to end what lost its parent.
func (p *process) checkLeftovers(t *testing.T) {
	t.Helper()
	err := errors.New("not looked")
	for deadline := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		err = p.leftovers()
	}
	if err != nil {
		t.Error(err)
	}
}

func (p *process) leftovers() error {
	files, err := os.ReadDir(p.files.tmp)
	if err != nil {
		return err
	}
	if len(files) > 0 {
		return fmt.Errorf("temporary file %s is left", files[0].Name())
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, c := range commands {
		line, _ := os.ReadFile(c) // the process may end meanwhile
		if bytes.Contains(line, []byte(p.name)) {
			return fmt.Errorf("a process is left: %s", bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
		}
	}
	return nil
}
