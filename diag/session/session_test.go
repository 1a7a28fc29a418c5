package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is for what happens soon; nothing is measured.
const patience = 30 * time.Second

// run is a program of the host's shell that runs in the background.
type run struct {
	t     *testing.T
	table *Table
	id    chan uint64
	end   chan struct{}
	stop  context.CancelFunc
	gate  chan struct{} // closed: output is taken

	mu   sync.Mutex
	out  map[Stream]string
	exit Exit
	err  error
}

// shell starts a script. Its output is taken when open says so.
func shell(t *testing.T, table *Table, p Program) *run {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	r := &run{t: t, table: table, id: make(chan uint64, 1), end: make(chan struct{}), stop: stop, gate: make(chan struct{}), out: map[Stream]string{}}
	t.Cleanup(func() {
		stop()
		<-r.end
	})
	go func() {
		defer close(r.end)
		exit, err := table.Run(ctx, p, func(id uint64) error {
			r.id <- id
			return nil
		}, func(s Stream, b []byte) error {
			select {
			case <-r.gate:
			case <-ctx.Done():
				return ctx.Err()
			}
			if len(b) > MaxChunk {
				t.Errorf("%d bytes at once", len(b))
			}
			r.mu.Lock()
			r.out[s] += string(b)
			r.mu.Unlock()
			return nil
		})
		r.mu.Lock()
		r.exit, r.err = exit, err
		r.mu.Unlock()
	}()
	return r
}

func script(text string) Program { return Program{Args: []string{"sh", "-c", text}} }

// open lets the output be taken.
func (r *run) open() *run {
	close(r.gate)
	return r
}

// number waits for the session's number.
func (r *run) number() uint64 {
	r.t.Helper()
	select {
	case id := <-r.id:
		return id
	case <-r.end:
		r.t.Fatalf("it did not start: %v", r.err)
	}
	return 0
}

// wait returns how it ended.
func (r *run) wait() (Exit, error) {
	<-r.end
	return r.exit, r.err
}

// said waits until the output has a text.
func (r *run) said(want string) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		out := r.out[Stdout]
		r.mu.Unlock()
		if strings.Contains(out, want) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("it never said %q but %q", want, out)
		}
	}
}

func TestPipes(t *testing.T) {
	var table Table
	p := script(`echo "out $X"; echo err >&2; pwd; exit 3`)
	p.Env = []string{"X=y"}
	r := shell(t, &table, p).open()
	exit, err := r.wait()
	if err != nil || exit != (Exit{Code: 3}) || r.out[Stdout] != "out y\n/\n" || r.out[Stderr] != "err\n" {
		t.Errorf("%+v, %v, %v", exit, err, r.out)
	}
	if table.Running() != 0 {
		t.Error("it still runs")
	}
}

// TestName: a program that is found in PATH is called by its path.
func TestName(t *testing.T) {
	var table Table
	r := shell(t, &table, script("echo $0; cat /proc/$$/cmdline")).open()
	if _, err := r.wait(); err != nil || !strings.Contains(r.out[Stdout], "/bin/sh\x00-c\x00") {
		t.Errorf("%q, %v", r.out[Stdout], err)
	}
}

// TestEnvironment: nothing of ours reaches a program.
func TestEnvironment(t *testing.T) {
	t.Setenv("SECRET", "1")
	var table Table
	r := shell(t, &table, Program{Args: []string{"env"}, Env: []string{"TERM=xterm"}}).open()
	if _, err := r.wait(); err != nil || r.out[Stdout] != "PATH=/bbin:/bin:/usr/bin\nHOME=/\nTERM=xterm\n" {
		t.Errorf("%q, %v", r.out[Stdout], err)
	}
}

func TestInput(t *testing.T) {
	var table Table
	r := shell(t, &table, Program{Args: []string{"cat"}}).open()
	id := r.number()
	for range 2 { // the second one comes to nothing
		if n, ended, err := table.Input(id, 0, []byte("hello\n"), false); n != 6 || ended || err != nil {
			t.Fatal(n, ended, err)
		}
	}
	r.said("hello\n")
	if _, _, err := table.Input(id, 7, []byte("bye\n"), false); !errors.Is(err, ErrInput) {
		t.Error(err)
	}
	if n, ended, err := table.Input(id, 2, []byte("llo\nbye\n"), true); n != 10 || !ended || err != nil {
		t.Fatal(n, ended, err)
	}
	switch n, ended, err := table.Input(id, 6, []byte("bye\n"), true); { // it may have ended
	case errors.Is(err, ErrSession), n == 10 && ended && err == nil:
	default:
		t.Error(n, ended, err)
	}
	exit, err := r.wait()
	if err != nil || exit != (Exit{}) || r.out[Stdout] != "hello\nbye\n" {
		t.Errorf("%+v, %v, %v", exit, err, r.out)
	}
	if _, _, err := table.Input(id, 0, nil, true); !errors.Is(err, ErrSession) {
		t.Error(err)
	}
}

// TestDeaf: nobody waits for a program that reads nothing, and what it has no room for
// comes again.
func TestDeaf(t *testing.T) {
	var table Table
	r := shell(t, &table, script("sleep 1000"))
	id := r.number()
	data := make([]byte, MaxChunk)
	var total uint64
	for {
		n, _, err := table.Input(id, total, data, false)
		if err != nil {
			t.Fatal(err)
		}
		part := n-total < uint64(len(data))
		if total = n; part {
			break
		}
		if total > maxLeftover {
			t.Fatal("it takes everything")
		}
	}
	if n, ended, err := table.Input(id, total, data, true); n != total || ended || err != nil {
		t.Error(n, ended, err)
	}
}

func TestTerminal(t *testing.T) {
	var table Table
	p := script(`test -t 0 && test -t 1 && test -t 2 && stty size && read line && echo "got $line" && stty size && cat`)
	p.Terminal = &Size{Rows: 20, Columns: 70}
	r := shell(t, &table, p).open()
	id := r.number()
	r.said("20 70\r\n")
	if err := table.Resize(id, Size{Rows: 30, Columns: 90}); err != nil {
		t.Error(err)
	}
	if n, _, err := table.Input(id, 0, []byte("it\n"), false); n != 3 || err != nil {
		t.Error(n, err)
	}
	r.said("got it\r\n30 90\r\n")
	if _, ended, err := table.Input(id, 3, nil, true); !ended || err != nil {
		t.Error(err)
	}
	if exit, err := r.wait(); err != nil || exit != (Exit{}) {
		t.Errorf("%+v, %v", exit, err)
	}
}

// TestInterrupt: Ctrl-C at a terminal is the program's.
func TestInterrupt(t *testing.T) {
	var table Table
	p := script("exec cat") // a shell may keep to itself a signal that comes while it starts something
	p.Terminal = &Size{}
	r := shell(t, &table, p).open()
	id := r.number()
	if _, _, err := table.Input(id, 0, []byte("here\n"), false); err != nil {
		t.Error(err)
	}
	r.said("here\r\nhere\r\n") // the terminal's echo, and cat
	if _, _, err := table.Input(id, 5, []byte{3}, false); err != nil {
		t.Error(err)
	}
	if exit, err := r.wait(); err != nil || exit.Signal != "SIGINT" {
		t.Errorf("%+v, %v", exit, err)
	}
}

func TestSignal(t *testing.T) {
	var table Table
	r := shell(t, &table, script("trap 'echo caught' USR1; echo ready; read x; read x")).open()
	id := r.number()
	r.said("ready")
	if err := table.Signal(id, int(unix.SIGUSR1)); err != nil {
		t.Error(err)
	}
	r.said("caught")
	for _, signal := range []int{0, -1, 32, 1000} {
		if err := table.Signal(id, signal); !errors.Is(err, ErrSignal) {
			t.Errorf("%d: %v", signal, err)
		}
	}
	if err := table.Signal(id, int(unix.SIGKILL)); err != nil {
		t.Error(err)
	}
	if exit, err := r.wait(); err != nil || exit.Signal != "SIGKILL" {
		t.Errorf("%+v, %v", exit, err)
	}
	if err := table.Signal(id, int(unix.SIGKILL)); !errors.Is(err, ErrSession) {
		t.Error(err)
	}
}

// TestClientLost: the whole process group ends when nobody is there any more, whether the
// program says something or not, and whether it has a terminal or not.
func TestClientLost(t *testing.T) {
	for _, terminal := range []*Size{nil, {}} {
		for _, text := range []string{"sleep 1000 & echo $!; wait", "sleep 1000 & echo $!; exec yes"} {
			var table Table
			p := script(text)
			p.Terminal = terminal
			r := shell(t, &table, p).open()
			r.number()
			r.said("\n")
			r.mu.Lock()
			child, _, _ := strings.Cut(r.out[Stdout], "\n")
			r.mu.Unlock()
			r.stop()
			if _, err := r.wait(); !errors.Is(err, context.Canceled) {
				t.Errorf("%q: %v", text, err)
			}
			gone(t, strings.TrimSpace(child))
		}
	}
}

// gone waits until a process is dead.
func gone(t *testing.T, pid string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
		if _, state, _ := strings.Cut(string(stat), ") "); err != nil || strings.HasPrefix(state, "Z") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %s lives: %s", pid, stat)
		}
	}
}

// TestLeftBehind: what a program leaves in its group ends with it, and what has left the
// group keeps nobody waiting.
func TestLeftBehind(t *testing.T) {
	var table Table
	r := shell(t, &table, script("sleep 1000 & echo $!")).open()
	if _, err := r.wait(); err != nil {
		t.Error(err)
	}
	gone(t, strings.TrimSpace(r.out[Stdout]))
	r = shell(t, &table, script("setsid sleep 1000 & echo $!; sleep 0.2; seq 20000")).open()
	_, err := r.wait()
	pid, rest, _ := strings.Cut(r.out[Stdout], "\n")
	if err != nil || !strings.HasSuffix(rest, "\n20000\n") {
		t.Errorf("%v, %d bytes", err, len(rest))
	}
	var n int
	if _, err := fmt.Sscan(pid, &n); err != nil {
		t.Fatal(err)
	}
	unix.Kill(n, unix.SIGKILL)
}

// TestSilent: a program that has closed its output still runs.
func TestSilent(t *testing.T) {
	var table Table
	r := shell(t, &table, script("exec >&- 2>&-; read x; exit 5")).open()
	id := r.number()
	if _, _, err := table.Input(id, 0, []byte("\n"), false); err != nil {
		t.Error(err)
	}
	if exit, err := r.wait(); err != nil || exit.Code != 5 {
		t.Errorf("%+v, %v", exit, err)
	}
}

// TestSlowReader: a program whose output nobody takes waits, in little memory, and all
// comes when somebody does.
func TestSlowReader(t *testing.T) {
	var table Table
	r := shell(t, &table, script("seq 100000; echo done >&2"))
	r.number()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	time.Sleep(200 * time.Millisecond) // it would be done
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("%d bytes", grown)
	}
	select {
	case <-r.end:
		t.Fatal("it ended before anybody read")
	default:
	}
	r.open()
	if exit, err := r.wait(); err != nil || exit != (Exit{}) || !strings.HasSuffix(r.out[Stdout], "\n100000\n") || r.out[Stderr] != "done\n" {
		t.Errorf("%+v, %v, %d bytes", exit, err, len(r.out[Stdout]))
	}
}

// TestOutputFails: a reader that fails ends the program.
func TestOutputFails(t *testing.T) {
	var table Table
	broken := errors.New("broken")
	for _, p := range []Program{script("yes"), {Args: []string{"yes"}, Terminal: &Size{}}} {
		_, err := table.Run(t.Context(), p, func(uint64) error { return nil }, func(Stream, []byte) error { return broken })
		if !errors.Is(err, broken) {
			t.Error(err)
		}
	}
	if _, err := table.Run(t.Context(), script("sleep 1000"), func(uint64) error { return broken }, nil); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestMany(t *testing.T) {
	var table Table
	var all []*run
	for range MaxSessions {
		r := shell(t, &table, script("read x"))
		r.number()
		all = append(all, r)
	}
	if _, err := table.Run(t.Context(), script("true"), nil, nil); !errors.Is(err, ErrMany) {
		t.Error(err)
	}
	all[0].stop()
	all[0].wait()
	if r := shell(t, &table, script("true")).open(); r.number() == 0 {
		t.Error("no number")
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, bytes.Repeat([]byte{0x7f}, 100), 0o755); err != nil {
		t.Fatal(err)
	}
	many := make([]string, MaxWords+1)
	for i := range many {
		many[i] = "x"
	}
	var table Table
	for name, test := range map[string]struct {
		program Program
		want    error
	}{
		"nothing":      {Program{}, ErrProgram},
		"no name":      {Program{Args: []string{""}}, ErrProgram},
		"words":        {Program{Args: many}, ErrProgram},
		"bytes":        {Program{Args: []string{"true", strings.Repeat("x", MaxText)}}, ErrProgram},
		"zero":         {Program{Args: []string{"true", "a\x00b"}}, ErrProgram},
		"variable":     {Program{Args: []string{"true"}, Env: []string{"X"}}, ErrProgram},
		"nameless":     {Program{Args: []string{"true"}, Env: []string{"=X"}}, ErrProgram},
		"size":         {Program{Args: []string{"true"}, Terminal: &Size{Rows: maxSide + 1}}, ErrSize},
		"missing":      {Program{Args: []string{"no-such-program"}}, ErrMissing},
		"no path":      {Program{Args: []string{"true"}, Env: []string{"PATH="}}, ErrMissing},
		"file":         {Program{Args: []string{plain}}, ErrMissing},
		"folder":       {Program{Args: []string{dir}}, ErrMissing},
		"none there":   {Program{Args: []string{plain + "/x"}}, ErrMissing},
		"no program":   {Program{Args: []string{broken}}, ErrStart},
		"no program 2": {Program{Args: []string{broken}, Terminal: &Size{}}, ErrStart},
	} {
		if _, err := table.Run(t.Context(), test.program, nil, nil); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if table.Running() != 0 {
		t.Errorf("%d run", table.Running())
	}
	r := shell(t, &table, script("read x"))
	if err := table.Resize(r.number(), Size{}); !errors.Is(err, ErrSize) {
		t.Error(err)
	}
	if err := table.Resize(99, Size{}); !errors.Is(err, ErrSession) {
		t.Error(err)
	}
}

// TestDescriptors: nothing stays open.
func TestDescriptors(t *testing.T) {
	var table Table
	count := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	one := func(terminal *Size) {
		p := script("echo x")
		p.Terminal = terminal
		shell(t, &table, p).open().wait()
	}
	one(nil)
	before := count()
	for range 10 {
		one(nil)
		one(&Size{})
		table.Run(t.Context(), Program{Args: []string{"/dev/null/x"}}, nil, nil)
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors, then %d", before, after)
	}
}
