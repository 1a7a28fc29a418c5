package profile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// toolSees runs a tool of Go on what was written and wants a text in what it prints.
func toolSees(t *testing.T, data []byte, want string, args ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", append(append([]string{"tool"}, args...), file)...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%q: %v: no %q in %d bytes\n%.2000s", args, err, want, len(out), out)
	}
}

// burn uses a processor until told to stop.
//
//go:noinline
func burn(stop chan struct{}) (n uint64) {
	for {
		select {
		case <-stop:
			return n
		default:
		}
		for range 1000 {
			n = n*31 + 1
		}
	}
}

// wait is where a goroutine is for a while.
//
//go:noinline
func wait(stop chan struct{}) { <-stop }

// TestProfiles: each profile opens with "go tool pprof", and shows what happens here.
func TestProfiles(t *testing.T) {
	stop := make(chan struct{})
	var mu sync.Mutex
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	wg.Go(func() { wait(stop) })
	wg.Go(func() { burn(stop) })
	// Two, so that the mutex's queue is empty at times: Go's samples leave out those who
	// queue behind one that waited before the samples began.
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				time.Sleep(time.Millisecond)
				mu.Unlock()
			}
		})
	}
	for kind, want := range map[string]string{
		cpu: "profile.burn", "goroutine": "profile.wait", "heap": "inuse_space", "allocs": "alloc_space", "threadcreate": "threadcreate",
		"block": "sync.(*Mutex).Lock", "mutex": "sync.(*Mutex).Unlock",
	} {
		t.Run(kind, func(t *testing.T) {
			var d time.Duration
			if Timed(kind) {
				d = time.Second
			}
			var b bytes.Buffer
			if err := Write(t.Context(), kind, d, &b); err != nil {
				t.Fatal(err)
			}
			toolSees(t, b.Bytes(), want, "pprof", "-top", "-nodecount=1000")
		})
	}
	if got := len(Kinds()); got != 7 {
		t.Errorf("%d kinds, not all of which are tried here", got)
	}
	if runtime.SetMutexProfileFraction(-1) != 0 {
		t.Error("mutexes are still sampled")
	}
}

// TestTrace: a trace opens with "go tool trace".
func TestTrace(t *testing.T) {
	var b bytes.Buffer
	cut, err := Trace(t.Context(), 100*time.Millisecond, &b)
	if err != nil || cut != "" {
		t.Fatal(cut, err)
	}
	toolSees(t, b.Bytes(), "StateTransition", "trace", "-d=parsed")
}

// slow takes nothing until it is told to.
type slow struct {
	bytes.Buffer
	gate chan struct{}
}

func (s *slow) Write(b []byte) (int, error) {
	<-s.gate
	return s.Buffer.Write(b)
}

// TestSlowReader: a trace whose reader is slow ends early, and is still one.
func TestSlowReader(t *testing.T) {
	to := &slow{gate: make(chan struct{})}
	time.AfterFunc(2*maxWait, func() { close(to.gate) })
	cut, err := Trace(t.Context(), MaxTime, to)
	if err != nil || !strings.Contains(cut, "slow") {
		t.Fatal(cut, err)
	}
	toolSees(t, to.Bytes(), "StateTransition", "trace", "-d=parsed")
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestEarly: who asked goes away.
func TestEarly(t *testing.T) {
	if _, err := Trace(t.Context(), MaxTime, broken{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	if err := Write(t.Context(), "heap", 0, broken{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, kind := range []string{cpu, "block", "mutex"} {
		if err := Write(ctx, kind, MaxTime, io.Discard); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, err := Trace(ctx, MaxTime, io.Discard); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		kind string
		d    time.Duration
		want error
	}{
		{"", 0, ErrKind}, {"none", 0, ErrKind}, {cpu, 0, ErrTime}, {cpu, -1, ErrTime}, {cpu, MaxTime + 1, ErrTime}, {"heap", time.Second, ErrTime},
	} {
		if err := Write(t.Context(), test.kind, test.d, io.Discard); !errors.Is(err, test.want) {
			t.Errorf("%q, %v: %v", test.kind, test.d, err)
		}
	}
	for _, d := range []time.Duration{0, -1, MaxTime + 1} {
		if _, err := Trace(t.Context(), d, io.Discard); !errors.Is(err, ErrTime) {
			t.Errorf("%v: %v", d, err)
		}
	}
	one.Lock()
	defer one.Unlock()
	if err := Write(t.Context(), cpu, time.Second, io.Discard); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if _, err := Trace(t.Context(), time.Second, io.Discard); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
}

func TestBound(t *testing.T) {
	var b bounded
	for range 3 {
		if n, err := b.Write(make([]byte, maxProfile/2)); n != maxProfile/2 || err != nil {
			t.Fatal(n, err)
		}
	}
	if !b.over || b.Len() > maxProfile {
		t.Errorf("%v, %d bytes", b.over, b.Len())
	}
}

// TestNobodyLabels: profiles leave a confidential VM because they have no text of the
// guest's. Labels of goroutines could have some, so nothing in the paravisor makes any.
func TestNobodyLabels(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "keel/paravisor/cmd/paravisor").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		seen++
		if len(f) == 0 || f[0] == "keel/diag/profile" {
			continue
		}
		for _, bad := range []string{"runtime/pprof", "runtime/trace", "net/http/pprof"} {
			if slices.Contains(f[1:], bad) {
				t.Errorf("%s imports %s", f[0], bad)
			}
		}
	}
	if seen < 50 {
		t.Errorf("%d packages", seen)
	}
}
