package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keel/diag/console"
	"keel/diag/server"
)

// debugVM is a VM with a debug image, whose programs are those of this host.
func debugVM(t *testing.T, p server.Programs) (*vm, *Client) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	v := start(t, path, server.Config{Root: &part{}, Debug: true, Programs: p})
	return v, dial(t, path)
}

// text is a writer that others may look at.
type text struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *text) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *text) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// until waits for something that happens soon.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func shell(script string) Program { return Program{Args: []string{"sh", "-c", script}} }

func nothing(*Session) {}

func TestExec(t *testing.T) {
	_, c := debugVM(t, server.Programs{})
	var out, errs text
	p := shell(`echo "out $X"; echo err >&2; exit 7`)
	p.Env = []string{"X=y"}
	end, err := c.Exec(t.Context(), p, nothing, &out, &errs)
	if err != nil || end != (ProgramEnd{Code: 7}) || out.String() != "out y\n" || errs.String() != "err\n" {
		t.Errorf("%+v, %v, %q, %q", end, err, out.String(), errs.String())
	}
	// More than any buffer, there and back.
	const total = 1 << 20
	out = text{}
	fed := make(chan struct{})
	end, err = c.Exec(t.Context(), Program{Args: []string{"cat"}}, func(s *Session) {
		go func() {
			defer close(fed)
			if err := errors.Join(s.Write(t.Context(), bytes.Repeat([]byte("0123456789abcdef"), total/16)), s.End(t.Context())); err != nil {
				t.Error(err)
			}
		}()
	}, &out, &errs)
	<-fed
	if err != nil || end != (ProgramEnd{}) || out.String() != strings.Repeat("0123456789abcdef", total/16) {
		t.Errorf("%+v, %v, %d bytes", end, err, len(out.String()))
	}
}

func TestTerminal(t *testing.T) {
	_, c := debugVM(t, server.Programs{})
	var out text
	p := shell("stty size; read x; stty size; echo $x; sleep 1000")
	p.Terminal = &TerminalSize{Rows: 11, Columns: 22}
	typed := make(chan struct{})
	end, err := c.Exec(t.Context(), p, func(s *Session) {
		go func() {
			defer close(typed)
			until(t, "the first size", func() bool { return strings.Contains(out.String(), "11 22\r\n") })
			err := errors.Join(s.Resize(t.Context(), TerminalSize{33, 44}), s.Write(t.Context(), []byte("typed\r")))
			until(t, "the second size", func() bool { return strings.Contains(out.String(), "33 44\r\ntyped\r\n") })
			if err := errors.Join(err, s.Signal(t.Context(), int(unix.SIGTERM))); err != nil {
				t.Error(err)
			}
		}()
	}, &out, io.Discard)
	<-typed // the answer to the signal may come after the end of what it ended
	if err != nil || end.Signal != "SIGTERM" {
		t.Errorf("%+v, %v, %q", end, err, out.String())
	}
}

// TestExecLost: the program ends with its client, and with the reader of its output.
func TestExecLost(t *testing.T) {
	v, c := debugVM(t, server.Programs{})
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := c.Exec(ctx, shell("sleep 1000"), func(*Session) { cancel() }, io.Discard, io.Discard); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := c.Exec(t.Context(), shell("yes"), nothing, failing{}, io.Discard); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	var late *Session
	if _, err := c.Exec(t.Context(), shell("true"), func(s *Session) { late = s }, io.Discard, io.Discard); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"write": late.Write(t.Context(), []byte("x")), "end": late.End(t.Context()),
		"resize": late.Resize(t.Context(), TerminalSize{}), "signal": late.Signal(t.Context(), 9),
	} {
		if !errors.Is(err, ErrPath) {
			t.Errorf("%s: %v", what, err)
		}
	}
	until(t, "no stream is left", func() bool { return v.server.Stats().Following == 0 })
	tree, err := c.Inspect(t.Context(), "leaf", 0)
	if err != nil || tree == nil {
		t.Error(err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestSlowClient: a program waits for a client that does not read, and goes on with it.
func TestSlowClient(t *testing.T) {
	_, c := debugVM(t, server.Programs{})
	pause := sync.OnceFunc(func() { time.Sleep(300 * time.Millisecond) })
	lines := 0
	_, err := c.Exec(t.Context(), shell("seq 300000"), nothing, writer(func(b []byte) {
		pause()
		lines += bytes.Count(b, []byte("\n"))
	}), io.Discard)
	if err != nil || lines != 300000 {
		t.Errorf("%d lines, %v", lines, err)
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

func TestExecRefused(t *testing.T) {
	_, c := debugVM(t, server.Programs{})
	for want, p := range map[error]Program{
		ErrRequest: {},
		ErrPath:    {Args: []string{"no-such-program"}},
	} {
		if _, err := c.Exec(t.Context(), p, nothing, io.Discard, io.Discard); !errors.Is(err, want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v", p, err)
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	runs := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			c.Exec(ctx, shell("sleep 1000"), func(*Session) { runs <- struct{}{} }, io.Discard, io.Discard)
		})
		<-runs
	}
	if _, err := c.Exec(t.Context(), shell("true"), nothing, io.Discard, io.Discard); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
}

func TestReadFile(t *testing.T) {
	_, c := debugVM(t, server.Programs{})
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	data := bytes.Repeat([]byte("some bytes "), 100_000)
	fifo := filepath.Join(dir, "fifo")
	if err := errors.Join(os.WriteFile(name, data, 0o600), os.Symlink(name, name+".link"), unix.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{name, name + ".link"} {
		var b bytes.Buffer
		if err := c.ReadFile(t.Context(), path, &b); err != nil || !bytes.Equal(b.Bytes(), data) {
			t.Errorf("%s: %d bytes, %v", path, b.Len(), err)
		}
	}
	var b bytes.Buffer
	if err := c.ReadFile(t.Context(), "/proc/self/status", &b); err != nil || !strings.Contains(b.String(), "\nPid:") {
		t.Errorf("%q, %v", b.String(), err)
	}
	for path, want := range map[string]error{
		"": ErrRequest, "file": ErrRequest, "/" + strings.Repeat("x", 2000): ErrRequest, "/a\x00b": ErrRequest,
		dir: ErrRequest, "/dev/null": ErrRequest, fifo: ErrRequest, "/proc/self/mem": ErrRequest,
		dir + "/none": ErrPath, name + "/x": ErrPath,
	} {
		err := c.ReadFile(t.Context(), path, io.Discard)
		if !errors.Is(err, want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.50q: %v", path, err)
		}
	}
	if err := c.ReadFile(t.Context(), name, failing{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	long := filepath.Join(dir, "long")
	if err := errors.Join(os.WriteFile(long, nil, 0o600), os.Truncate(long, maxFile+1)); err != nil {
		t.Fatal(err)
	}
	var n counter
	if err := c.ReadFile(t.Context(), long, &n); !errors.Is(err, ErrCut) || n != maxFile {
		t.Errorf("%d bytes, %v", n, err)
	}
}

type counter int

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

func TestProfiles(t *testing.T) {
	_, c := debugVM(t, server.Programs{})
	gzip := []byte{0x1f, 0x8b}
	for kind, d := range map[string]time.Duration{"heap": 0, "goroutine": 0, "cpu": 50 * time.Millisecond, "mutex": 10 * time.Millisecond} {
		var b bytes.Buffer
		if err := c.Profile(t.Context(), kind, d, &b); err != nil || !bytes.HasPrefix(b.Bytes(), gzip) {
			t.Errorf("%s: %d bytes, %v", kind, b.Len(), err)
		}
	}
	var b bytes.Buffer
	if err := c.Trace(t.Context(), 50*time.Millisecond, &b); err != nil || !bytes.HasPrefix(b.Bytes(), []byte("go 1.")) {
		t.Errorf("%d bytes, %v", b.Len(), err)
	}
	for what, err := range map[string]error{
		"kind":  c.Profile(t.Context(), "none", 0, io.Discard),
		"now":   c.Profile(t.Context(), "heap", time.Second, io.Discard),
		"never": c.Profile(t.Context(), "cpu", 0, io.Discard),
		"long":  c.Profile(t.Context(), "cpu", time.Hour, io.Discard),
		"trace": c.Trace(t.Context(), 10000*time.Hour, io.Discard),
	} {
		if !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// One at a time; one that nobody waits for any more makes room.
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		for {
			if err := c.Profile(ctx, "cpu", time.Minute, io.Discard); !errors.Is(err, ErrBusy) {
				ended <- err
				return
			}
		}
	}()
	until(t, "another one is taken", func() bool { return errors.Is(c.Trace(t.Context(), time.Millisecond, io.Discard), ErrBusy) })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	until(t, "there is room", func() bool { return c.Trace(t.Context(), time.Millisecond, io.Discard) == nil })
}

func TestCoreDump(t *testing.T) {
	_, c := debugVM(t, server.Programs{})
	f, err := os.Create(filepath.Join(t.TempDir(), "core"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := c.CoreDump(t.Context(), "paravisor", f); err != nil {
		t.Fatal(err)
	}
	var n counter
	if err := c.CoreDump(t.Context(), "paravisor", &n); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || int64(n) < st.Size/2 || st.Blocks*512 >= st.Size {
		t.Errorf("%d bytes in a file, of which %d are there, %d in a pipe; %v", st.Size, st.Blocks*512, n, err)
	}
	if err := c.CoreDump(t.Context(), "tpm", io.Discard); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "rule tpm-secrets") {
		t.Error(err)
	}
	if err := c.CoreDump(t.Context(), "none", io.Discard); !errors.Is(err, ErrPath) {
		t.Error(err)
	}
}

func TestRestart(t *testing.T) {
	restarts := 0
	var fails error
	_, c := debugVM(t, server.Programs{Restart: map[string]func(context.Context) error{"tpm": func(context.Context) error {
		restarts++
		return fails
	}}})
	if err := c.Restart(t.Context(), "tpm"); err != nil || restarts != 1 {
		t.Error(err, restarts)
	}
	if err := c.Restart(t.Context(), "none"); !errors.Is(err, ErrPath) {
		t.Error(err)
	}
	fails = fmt.Errorf("it works: %w", context.DeadlineExceeded)
	if err := c.Restart(t.Context(), "tpm"); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	fails = io.ErrUnexpectedEOF
	if err := c.Restart(t.Context(), "tpm"); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
}

// TestConsole: several follow a port, and type at it in turn, when the guest has room.
func TestConsole(t *testing.T) {
	var port, closed console.Port
	var typed text
	full := true
	v, c := debugVM(t, server.Programs{Consoles: [2]server.Console{
		{Output: &port, Type: func(b []byte) int {
			typed.mu.Lock()
			defer typed.mu.Unlock()
			if full = !full; full { // every other time there is no room
				return 0
			}
			n, _ := typed.buf.Write(b[:min(len(b), 3)])
			return n
		}},
		{Output: &closed},
	}})
	port.Write([]byte("before "))
	ctx, cancel := context.WithCancel(t.Context())
	var seen [2]text
	sessions := make(chan *Console, 2)
	ended := make(chan error, 2)
	for i := range seen {
		go func() {
			ended <- c.Console(ctx, 1, func(s *Console) { sessions <- s }, func(b []byte, lost uint64) error {
				if lost != 0 {
					t.Errorf("%d bytes lost", lost)
				}
				_, err := seen[i].Write(b)
				return err
			})
		}()
	}
	one, two := <-sessions, <-sessions
	port.Write([]byte("after"))
	for i := range seen {
		until(t, "all is seen", func() bool { return seen[i].String() == "before after" })
	}
	if err := errors.Join(one.Write(t.Context(), []byte("first ")), two.Write(t.Context(), []byte("second")), one.Write(t.Context(), []byte(" third"))); err != nil {
		t.Error(err)
	}
	if typed.String() != "first second third" {
		t.Errorf("%q", typed.String())
	}
	cancel()
	for range seen {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	until(t, "nobody follows", func() bool { n, _ := port.Readers(); return n == 0 && v.server.Stats().Following == 0 })
	if err := one.Write(t.Context(), []byte("x")); !errors.Is(err, ErrPath) {
		t.Error(err)
	}
	if err := c.Console(t.Context(), 3, func(*Console) {}, nil); !errors.Is(err, ErrRequest) {
		t.Error(err)
	}
	mute := make(chan error)
	ctx, cancel = context.WithCancel(t.Context())
	go c.Console(ctx, 2, func(s *Console) { go func() { mute <- s.Write(t.Context(), []byte("x")) }() }, nil)
	if err := <-mute; !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	cancel()
	_, c = debugVM(t, server.Programs{})
	if err := c.Console(t.Context(), 1, func(*Console) {}, nil); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
}

// TestSlowConsole: a guest never waits for who follows its console, and who is slow learns
// what is missing.
func TestSlowConsole(t *testing.T) {
	var port console.Port
	_, c := debugVM(t, server.Programs{Consoles: [2]server.Console{{Output: &port}}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	attached, gate := make(chan struct{}), make(chan struct{})
	var got, missing uint64
	const total = 16 << 20
	ended := make(chan error)
	go func() {
		ended <- c.Console(ctx, 1, func(*Console) { close(attached) }, func(b []byte, lost uint64) error {
			<-gate
			if got, missing = got+uint64(len(b)), missing+lost; got+missing == total {
				return errEnough
			}
			return nil
		})
	}()
	<-attached
	for range total / 1024 {
		port.Write(make([]byte, 1024))
	}
	close(gate)
	if err := <-ended; !errors.Is(err, errEnough) || missing == 0 {
		t.Errorf("%v, %d bytes and %d lost", err, got, missing)
	}
}

// TestRules: where the guest is confidential, or the image is not for debugging, what must
// not come out is refused by the name of its rule.
func TestProgramRules(t *testing.T) {
	var port console.Port
	port.Write([]byte("secret"))
	programs := server.Programs{
		Restart:  map[string]func(context.Context) error{"tpm": func(context.Context) error { t.Error("it was restarted"); return nil }},
		Consoles: [2]server.Console{{Output: &port, Type: func([]byte) int { t.Error("somebody typed"); return 0 }}},
	}
	calls := map[string]func(c *Client) error{
		"debug-programs": func(c *Client) error {
			_, err := c.Exec(t.Context(), shell("true"), nothing, io.Discard, io.Discard)
			s := &Session{c: c, id: 1}
			for _, more := range []error{s.Write(t.Context(), []byte("x")), s.Resize(t.Context(), TerminalSize{}), s.Signal(t.Context(), 9)} {
				if !errors.Is(more, ErrRefused) {
					t.Error(more)
				}
			}
			return err
		},
		"debug-files":     func(c *Client) error { return c.ReadFile(t.Context(), "/proc/self/status", io.Discard) },
		"code-profiles":   func(c *Client) error { return c.Profile(t.Context(), "goroutine", 0, io.Discard) },
		"execution-trace": func(c *Client) error { return c.Trace(t.Context(), time.Millisecond, io.Discard) },
		"memory-dumps":    func(c *Client) error { return c.CoreDump(t.Context(), "paravisor", io.Discard) },
		"worker-restart":  func(c *Client) error { return c.Restart(t.Context(), "tpm") },
		"console-output": func(c *Client) error {
			return c.Console(t.Context(), 1, func(*Console) {}, func([]byte, uint64) error { return errEnough })
		},
		"console-input": func(c *Client) error { return (&Console{c: c, id: 1}).Write(t.Context(), []byte("x")) },
	}
	for _, tt := range []struct {
		confidential, debug bool
		allowed             string
	}{
		{true, true, "code-profiles"},
		{true, false, "code-profiles"},
		{false, false, "code-profiles execution-trace"},
	} {
		path := filepath.Join(t.TempDir(), "s")
		start(t, path, server.Config{Root: &part{}, Confidential: tt.confidential, Debug: tt.debug, Programs: programs})
		c := dial(t, path)
		for rule, call := range calls {
			if !tt.confidential && !strings.HasPrefix(rule, "debug-") && !strings.Contains(tt.allowed, rule) {
				continue // tried elsewhere
			}
			err := call(c)
			switch allowed := strings.Contains(tt.allowed, rule); {
			case allowed && err != nil:
				t.Errorf("%+v: %s: %v", tt, rule, err)
			case !allowed && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "rule "+rule+" refuses Programs/")):
				t.Errorf("%+v: %s: %v", tt, rule, err)
			}
		}
	}
}
