package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// This program is also the worker: its argument says what it does.
const act = "-act="

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && strings.HasPrefix(os.Args[1], act) {
		behave(strings.TrimPrefix(os.Args[1], act))
	}
	os.Exit(m.Run())
}

// behave is a worker.
func behave(how string) {
	socket := os.NewFile(FirstSocket, "socket")
	switch how {
	case "echo":
		io.Copy(socket, socket)
	case "who":
		uid, err := os.ReadFile("/proc/self/uid_map")
		fmt.Fprintf(socket, "%d %d %q %s %v", os.Getpid(), os.Getuid(), os.Environ(), strings.Join(strings.Fields(string(uid)), ","), err)
	case "exit":
		os.Exit(7)
	case "signal":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		// A first process cannot send itself that.
		var p *int
		*p = 1
	case "chatter":
		for range 1000 {
			fmt.Fprintln(os.Stderr, strings.Repeat("x", 1000))
		}
	case "stubborn":
		time.Sleep(time.Hour)
	}
	os.Exit(0)
}

const userID = 902_000

func supervisor(t *testing.T, how string, change func(*Config)) *Supervisor {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip(fmt.Errorf("%w: workers have user IDs of their own, which only root gives", errors.ErrUnsupported))
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Where the worker's user may run it.
	dir, err := os.MkdirTemp("", "worker")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "worker")
	b, err := os.ReadFile(exe)
	if err := errors.Join(err, os.WriteFile(path, b, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Name: how, Path: path, Args: []string{act + how}, UserID: userID, Sockets: 1, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	return New(cfg)
}

func start(t *testing.T, s *Supervisor) *Process {
	t.Helper()
	p, err := s.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestEcho(t *testing.T) {
	s := supervisor(t, "echo", nil)
	p := start(t, s)
	if _, err := p.Socket(0).Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(p.Socket(0), b); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	p.Stop()
	if err := p.Err(); err != nil {
		t.Error(err)
	}
	if got := s.Stats(); got.Starts != 1 || got.Deaths != 0 {
		t.Errorf("%+v", got)
	}
}

// TestIsolation: the process is the first of its namespace, nobody outside, and has no
// environment.
func TestIsolation(t *testing.T) {
	t.Setenv("SECRET", "1")
	p := start(t, supervisor(t, "who", nil))
	b, err := io.ReadAll(p.Socket(0))
	if want := fmt.Sprintf("1 0 [] 0,%d,2 <nil>", userID); err != nil || string(b) != want {
		t.Errorf("%q, want %q, %v", b, want, err)
	}
}

func TestDeaths(t *testing.T) {
	for how, want := range map[string]string{"exit": "exit code 7", "signal": "exit code 2", "echo": "signal SIGKILL"} {
		s := supervisor(t, how, nil)
		p := start(t, s)
		if how == "echo" {
			p.Kill()
		}
		if err := p.Err(); err == nil || err.Error() != want {
			t.Errorf("%s: %v", how, err)
		}
		if got := s.Stats(); got.Deaths != 1 || got.LastDeath != want {
			t.Errorf("%s: %+v", how, got)
		}
	}
}

// TestStubborn: a worker that does not end at Stop is killed, which is no death.
func TestStubborn(t *testing.T) {
	s := supervisor(t, "stubborn", nil)
	p := start(t, s)
	p.Stop()
	select {
	case <-p.Ended():
		t.Fatal("it ended")
	case <-time.After(50 * time.Millisecond):
	}
	p.Kill()
	if got := s.Stats(); got.Deaths != 0 {
		t.Errorf("%+v", got)
	}
}

// TestBound: after too many deaths there is no further start until the window passed.
func TestBound(t *testing.T) {
	const window = 6 * time.Second // three starts take less, on any machine
	s := supervisor(t, "exit", func(c *Config) { c.MaxDeaths, c.MinDelay, c.Window = 3, time.Millisecond, window })
	for range 3 {
		p, err := s.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		<-p.Ended()
	}
	if _, err := s.Start(t.Context()); !errors.Is(err, ErrGaveUp) || !strings.Contains(err.Error(), "exit code 7") {
		t.Errorf("%v", err)
	}
	time.Sleep(window)
	start(t, s)
}

func TestDelay(t *testing.T) {
	s := New(Config{MinDelay: time.Second, MaxDelay: 5 * time.Second, MaxDeaths: 100, Log: slog.New(slog.DiscardHandler)})
	for i, want := range []time.Duration{0, 0, 1, 2, 4, 5, 5} {
		if got, err := s.delay(time.Now()); err != nil || got != want*time.Second {
			t.Errorf("after %d deaths %v, %v; want %d s", i, got, err, want)
		}
		s.died("test")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Start(ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrStart) {
		t.Error(err)
	}
}

func TestLogIsBounded(t *testing.T) {
	s := supervisor(t, "chatter", nil)
	<-start(t, s).Ended()
	if got := s.Stats(); got.LogLines != DefaultLogLines || got.LogLost != 1000-DefaultLogLines {
		t.Errorf("%+v", got)
	}
}

func TestNoProgram(t *testing.T) {
	s := New(Config{Path: "/no/such/program", Log: slog.New(slog.DiscardHandler)})
	if _, err := s.Start(t.Context()); !errors.Is(err, ErrStart) {
		t.Error(err)
	}
	if got := s.Stats(); got.Deaths != 1 {
		t.Errorf("%+v", got)
	}
}
