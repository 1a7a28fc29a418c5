package boot

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/diag/client"
	"keel/diag/profile"
	"keel/tests/harness"
)

// diagPrograms runs programs in a VM, takes profiles and cores of its paravisor, and types
// at its guest.
func diagPrograms(t *testing.T, vm *diagVM) {
	t.Run("profile", vm.profiles)
	runs, reads := !vm.Confidential && vm.Debug, !vm.Confidential
	for _, tt := range []struct {
		rule    string
		command []string
		allowed bool
	}{
		{"debug-programs", []string{"exec", vm.Name, "--", "uname"}, runs},
		{"debug-programs", []string{"shell", vm.Name}, runs},
		{"debug-files", []string{"cat", vm.Name, "/proc/version"}, runs},
		{"execution-trace", []string{"trace", vm.Name, "-o", filepath.Join(t.TempDir(), "trace")}, reads},
		{"memory-dumps", []string{"core", vm.Name, "-o", filepath.Join(t.TempDir(), "core")}, reads},
		{"worker-restart", []string{"restart", vm.Name, "tpm"}, reads},
		{"console-output", []string{"console", vm.Name}, reads},
		{"console-output", []string{"console", vm.Name, "--port", "2", "--read-only"}, reads},
	} {
		if !tt.allowed {
			vm.failed(t, handoff.OutcomeBadConfig, "rule "+tt.rule+" refuses Programs/", append([]string{"diag"}, tt.command...)...)
		}
	}
	if !vm.Confidential {
		t.Run("trace", vm.trace)
		t.Run("core", vm.core)
		t.Run("console", vm.console)
		vm.failed(t, handoff.OutcomeUsage, "there is no worker", "diag", "restart", vm.Name, "tpm")
	}
	if runs {
		t.Run("exec", vm.execs)
		t.Run("terminal", vm.terminal)
		t.Run("cat", vm.cat)
		if n := look(t, vm.Name, "diag/programs").sum(); n != 0 {
			t.Errorf("programs or readers of consoles are left: %v", n)
		}
	}
}

// opens runs a tool of Go on a file and wants a text in what it prints.
func opens(t *testing.T, want, file string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append(append([]string{"tool"}, args...), file)...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%q: %v: no %q in %d bytes\n%.2000s", args, err, want, len(out), out)
	}
}

// profiles takes a profile of each kind, which "go tool pprof" opens.
func (vm *diagVM) profiles(t *testing.T) {
	for _, kind := range profile.Kinds() {
		file := filepath.Join(t.TempDir(), kind)
		args := []string{kind, "-o", file, "--json"}
		if profile.Timed(kind) {
			args = append(args, "--seconds", "1")
		}
		var saved struct{ Bytes int }
		if err := json.Unmarshal([]byte(vm.diag(t, "profile", args...)), &saved); err != nil || saved.Bytes == 0 {
			t.Errorf("%s: %v, %+v", kind, err, saved)
		}
		want := "Type: "
		if kind == "goroutine" {
			want = "keel/paravisor.(*keel).live" // names are there without a binary
		}
		opens(t, want, file, "pprof", "-top", "-nodecount=1000")
	}
	vm.failed(t, handoff.OutcomeUsage, "no such profile", "diag", "profile", vm.Name, "none", "-o", filepath.Join(t.TempDir(), "none"))
}

func (vm *diagVM) trace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trace")
	vm.diag(t, "trace", "--seconds", "1", "-o", file)
	opens(t, "StateTransition", file, "trace", "-d=parsed")
}

// core dumps the paravisor, which has its own memory and none of the guest's.
func (vm *diagVM) core(t *testing.T) {
	file := filepath.Join(t.TempDir(), "core")
	vm.diag(t, "core", "-o", file)
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	loads := 0
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			if loads++; p.Memsz >= uint64(vm.memory) {
				t.Errorf("it has %d bytes at %#x, as many as the guest", p.Memsz, p.Vaddr)
			}
		}
	}
	if f.Type != elf.ET_CORE || loads < 3 {
		t.Errorf("%+v, %d areas", f.FileHeader, loads)
	}
	vm.failed(t, handoff.OutcomeBadConfig, "rule tpm-secrets refuses", "diag", "core", vm.Name, "tpm")
	vm.failed(t, handoff.OutcomeUsage, "no process", "diag", "core", vm.Name, "none")
}

// heard is what comes out of a VM.
type heard struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.Write(b)
}

func (h *heard) text() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.String()
}

// has waits until a text came.
func (h *heard) has(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(harness.Patience); !strings.Contains(h.text(), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never said %q but %q", want, h.text())
		}
	}
}

// console follows both serial ports beside the launcher, and types at them.
func (vm *diagVM) console(t *testing.T) {
	c := vm.dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	var ports [2]heard
	at := [2]chan *client.Console{make(chan *client.Console, 1), make(chan *client.Console, 1)}
	var wg sync.WaitGroup
	for i := range ports {
		wg.Go(func() {
			err := c.Console(ctx, i+1, func(s *client.Console) { at[i] <- s }, func(b []byte, _ uint64) error {
				_, err := ports[i].Write(b)
				return err
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("COM%d: %v", i+1, err)
			}
		})
	}
	defer wg.Wait()
	defer cancel()
	var sessions [2]*client.Console
	for i := range at {
		select {
		case sessions[i] = <-at[i]:
		case <-time.After(harness.Patience):
			t.Fatal("nobody lets us in")
		}
	}
	ports[0].has(t, "keel-guest:/# ") // said before we came
	if err := sessions[0].Write(t.Context(), []byte("echo both-$((6*7))\r")); err != nil {
		t.Fatal(err)
	}
	ports[0].has(t, "both-42\r\n")
	vm.Expect(t, "both-42\r\n")
	vm.sh(t, "stty -F /dev/ttyS1 raw -echo; echo other-$((6*7)) >/dev/ttyS1")
	ports[1].has(t, "other-42\n")
	vm.Send(t, "read line </dev/ttyS1; echo got-$line\r")
	if err := sessions[1].Write(t.Context(), []byte("typed\n")); err != nil {
		t.Fatal(err)
	}
	vm.Expect(t, "got-typed\r\n")
	vm.prompt(t)
}

// execs runs programs, and ends one with its client.
func (vm *diagVM) execs(t *testing.T) {
	if said := keelTool(t, handoff.OutcomePoweroff, "diag", "exec", vm.Name, "--", "sh", "-c", "echo $((6*7))"); said != "42\n" {
		t.Errorf("%q", said)
	}
	c := vm.dial(t)
	for script, want := range map[string]client.ProgramEnd{"exit 3": {Code: 3}, "true": {}} {
		end, err := c.Exec(t.Context(), client.Program{Args: []string{"sh", "-c", script}}, func(*client.Session) {}, io.Discard, io.Discard)
		if err != nil || end != want {
			t.Errorf("%q: %+v, %v", script, end, err)
		}
	}
	var out heard
	const many = 100_000
	end, err := c.Exec(t.Context(), client.Program{Args: []string{"cat"}}, func(s *client.Session) {
		go func() {
			if err := errors.Join(s.Write(t.Context(), bytes.Repeat([]byte("x"), many)), s.End(t.Context())); err != nil {
				t.Error(err)
			}
		}()
	}, &out, io.Discard)
	if err != nil || end != (client.ProgramEnd{}) || out.text() != strings.Repeat("x", many) {
		t.Errorf("%+v, %v, %d bytes", end, err, len(out.text()))
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = c.Exec(ctx, client.Program{Args: []string{"sleep", "1000"}}, func(*client.Session) {
		if n := look(t, vm.Name, "diag/programs/running").sum(); n != 1 {
			t.Errorf("%v programs run", n)
		}
		cancel()
	}, io.Discard, io.Discard)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for deadline := time.Now().Add(harness.Patience); look(t, vm.Name, "diag/programs/running").sum() != 0; {
		if time.Now().After(deadline) {
			t.Fatal("a program outlives its client")
		}
	}
	vm.failed(t, handoff.OutcomeUsage, "no such program", "diag", "exec", vm.Name, "--", "no-such-program")
}

// terminal works in the shell of the debug image.
func (vm *diagVM) terminal(t *testing.T) {
	c := vm.dial(t)
	var out heard
	p := client.Program{Args: []string{"/bin/sh"}, Terminal: &client.TerminalSize{Rows: 25, Columns: 81}}
	end, err := c.Exec(t.Context(), p, func(s *client.Session) {
		go func() {
			typed := func(b string) {
				if err := s.Write(t.Context(), []byte(b)); err != nil {
					t.Error(err)
				}
			}
			typed("echo $((6*7))\r")
			out.has(t, "\n42\r\n")
			typed("stty\r")
			out.has(t, "25")
			typed("sleep 1000\r")
			out.has(t, "sleep 1000\r\n")
			typed("\x03")
			typed("exit 7\r")
		}()
	}, &out, io.Discard)
	if err != nil || end.Code != 7 {
		t.Errorf("%+v, %v, %q", end, err, out.text())
	}
	t.Logf("%q", out.text())
}

// cat reads files.
func (vm *diagVM) cat(t *testing.T) {
	if said := vm.diag(t, "cat", "/proc/version"); !strings.HasPrefix(said, "Linux version ") {
		t.Errorf("%q", said)
	}
	file := filepath.Join(t.TempDir(), "paravisor")
	vm.diag(t, "cat", "/bin/paravisor", "-o", file)
	if b, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(b, []byte(elf.ELFMAG)) || len(b) < 1<<20 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	vm.failed(t, handoff.OutcomeUsage, "cannot be read", "diag", "cat", vm.Name, "/no/such/file")
	vm.failed(t, handoff.OutcomeUsage, "folder", "diag", "cat", vm.Name, "/proc")
	vm.failed(t, handoff.OutcomeUsage, "no regular file", "diag", "cat", vm.Name, "/dev/console")
}
