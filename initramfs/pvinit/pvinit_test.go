package pvinit

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keel/boot/handoff"
)

// fakePorts makes a class folder and a device folder with the named ports.
func fakePorts(t *testing.T, names map[string]string) (class, dev string) {
	t.Helper()
	class, dev = t.TempDir(), t.TempDir()
	for port, name := range names {
		addPort(t, class, dev, port, name)
	}
	return class, dev
}

func addPort(t *testing.T, class, dev, port, name string) {
	t.Helper()
	err := errors.Join(
		os.WriteFile(filepath.Join(dev, port), nil, 0o600),
		os.Mkdir(filepath.Join(class, port), 0o700),
		os.WriteFile(filepath.Join(class, port, "name"), []byte(name+"\n"), 0o600),
	)
	if err != nil {
		t.Error(err)
	}
}

func TestPortsAreFoundByName(t *testing.T) {
	class, dev := fakePorts(t, map[string]string{
		"vport0p1": "org.qemu.guest_agent.0",
		"vport0p2": handoff.PortControl,
		"vport0p3": handoff.PortLog,
	})
	// The last port comes while pvinit waits.
	time.AfterFunc(20*time.Millisecond, func() { addPort(t, class, dev, "vport1p1", handoff.PortConsole) })
	p, err := openPorts(class, dev, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for f, want := range map[*os.File]string{p.control: "vport0p2", p.log: "vport0p3", p.console: "vport1p1"} {
		got, err := os.Readlink("/proc/self/fd/" + fdNumber(f))
		if err != nil || filepath.Base(got) != want {
			t.Errorf("%s is %s (%v), want %s", f.Name(), got, err, want)
		}
	}
}

func fdNumber(f *os.File) string { return strconv.Itoa(int(f.Fd())) }

func TestMissingPortIsNamed(t *testing.T) {
	class, dev := fakePorts(t, map[string]string{"vport0p1": handoff.PortControl, "vport0p2": handoff.PortLog})
	_, err := openPorts(class, dev, 10*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), handoff.PortConsole) {
		t.Errorf("error %v does not name the port that is missing", err)
	}
}

// pipe returns a pipe that was opened as the ports are and whose writing end was
// then made non-blocking behind the back of package os, as the paravisor does.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
	t.Cleanup(func() { r.Close(); w.Close() })
	if err := unix.SetNonblock(fds[1], true); err != nil {
		t.Fatal(err)
	}
	return r, w
}

func TestWriteOutlastsASlowReader(t *testing.T) {
	r, w := pipe(t)
	line := strings.Repeat("x", 1<<20) + "\n" // more than a pipe holds
	got := make(chan string, 1)
	go func() {
		s, _ := bufio.NewReader(r).ReadString('\n')
		got <- s
	}()
	if err := write(w, []byte(line), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != line {
		t.Errorf("%d bytes arrived, want %d", len(s), len(line))
	}
}

func TestWriteGivesUpOnADeafHost(t *testing.T) {
	_, w := pipe(t)
	if err := write(w, make([]byte, 1<<20), 20*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error %v, want %v", err, os.ErrDeadlineExceeded)
	}
}

func TestCrash(t *testing.T) {
	tests := []struct {
		name, script string
		want         string // part of the message, "" for none
	}{
		{"powered off", "exit 0", ""},
		{"guest crashed", "exit 10", ""},
		{"panic", "exit 2", "panicked"},
		{"fatal signal", "kill -SEGV $$", "SIGSEGV"},
		{"killed", "kill -KILL $$", "SIGKILL"},
		{"not a status of ours", "exit 77", "status 77"},
		{"the launcher's own outcome", "exit 14", "status 14"},
		{"an orphan ends first", "true & exit 7", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, err := supervise(exec.Command("/bin/sh", "-c", tt.script))
			if err != nil {
				t.Fatal(err)
			}
			got := crash(status, nil)
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) || strings.Contains(got, "\n") {
				t.Errorf("message %q, want one line with %q", got, tt.want)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		if got := crash(supervise(exec.Command("/nonexistent"))); !strings.Contains(got, "cannot run") {
			t.Errorf("message %q", got)
		}
	})
}

func TestParavisorDescriptors(t *testing.T) {
	dir := t.TempDir()
	var files [4]*os.File
	for i, name := range []string{"control", "console", "log", "words"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[i] = f
	}
	cmd := paravisor(&ports{control: files[0], console: files[1], log: files[2]}, files[3])
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", "echo A >&3; echo B >&4; echo C >&5; echo F >&6; echo D; echo E >&2; cat"}
	if status, err := supervise(cmd); err != nil || status.ExitStatus() != 0 {
		t.Fatal(status, err)
	}
	for name, want := range map[string]string{"control": "A\n", "console": "B\n", "log": "C\nD\nE\n", "words": "F\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s got %q (%v), want %q", name, got, err, want)
		}
	}
}

func TestTSCFrequency(t *testing.T) {
	tests := []struct {
		name, text string
		want       float64
		ok         bool
	}{
		{"two processors", "processor\t: 0\ncpu MHz\t\t: 2596.080\n\nprocessor\t: 1\ncpu MHz\t\t: 1.000\n", 2596.08, true},
		{"no frequency", "processor\t: 0\n", 0, false},
		{"zero", "cpu MHz\t\t: 0.000\n", 0, false},
		{"garbage", "cpu MHz\t\t: fast\n", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := tscMHz(tt.text); ok != tt.ok || ok && got != tt.want {
				t.Errorf("got %v, %v, want %v, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
	if a, b := sincePowerOn(), sincePowerOn(); a <= 0 || b < a {
		t.Errorf("time since power-on went from %v to %v", a, b)
	}
}

func TestHasParam(t *testing.T) {
	for cmdline, want := range map[string]bool{
		"console=ttyS0 keel.shell panic=-1\n": true,
		"keel.shell":                          true,
		"keel.shells x=keel.shell":            false,
		"":                                    false,
	} {
		if got := hasParam(cmdline, shellParam); got != want {
			t.Errorf("%q: %v, want %v", cmdline, got, want)
		}
	}
}
