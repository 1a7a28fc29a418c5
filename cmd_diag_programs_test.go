package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/diag/client"
	"keel/diag/console"
	"keel/diag/owner"
	"keel/diag/server"
)

// programVM is a VM with a debug image, whose programs are those of this host.
func programVM(t *testing.T, p server.Programs) string {
	t.Helper()
	return serveDiag(t, server.Config{Root: tree{}, Debug: true, Programs: p})
}

// seen is what a command prints, while it runs.
type seen struct{ buffer }

// has waits until a text was written.
func (s *seen) has(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(s.String(), want); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never said %q but %q", want, s.String())
		}
	}
}

// command runs a command of keel diag.
func command(ctx context.Context, cmd *cobra.Command, in io.Reader, out, errs io.Writer, args ...string) error {
	cmd.SetArgs(args)
	cmd.SetIn(in)
	cmd.SetOut(out)
	cmd.SetErr(errs)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	return cmd.ExecuteContext(ctx)
}

func TestExecCommand(t *testing.T) {
	vm := programVM(t, server.Programs{})
	for name, tt := range map[string]struct {
		args      []string
		in        string
		out, errs string
		status    programStatus
	}{
		"output":  {[]string{vm, "--", "sh", "-c", "echo out; echo err >&2"}, "", "out\n", "err\n", 0},
		"status":  {[]string{vm, "--", "sh", "-c", "exit 42"}, "", "", "", 42},
		"signal":  {[]string{vm, "--", "sh", "-c", "kill -9 $$"}, "", "", "", 137},
		"nothing": {[]string{vm, "--", "cat"}, "unread", "", "", 0},
		"input":   {[]string{"-i", vm, "--", "cat"}, "read", "read", "", 0},
		"env":     {[]string{"-e", "X=1", "--env", "Y=2", vm, "--", "sh", "-c", "echo $X$Y"}, "", "12\n", "", 0},
		"tty":     {[]string{"-t", vm, "--", "sh", "-c", "test -t 1 && echo yes"}, "", "yes\r\n", "", 0},
		"json": {
			[]string{"--json", vm, "--", "sh", "-c", "echo out; exit 3"},
			"",
			"{\"stdout\":\"out\\n\"}\n{\"code\":3,\"signal\":\"\"}\n", "", 3,
		},
	} {
		var out, errs seen
		err := command(t.Context(), execCommand(), strings.NewReader(tt.in), &out, &errs, tt.args...)
		status, _ := errors.AsType[programStatus](err)
		if status != tt.status || (err != nil) != (tt.status != 0) || out.String() != tt.out || errs.String() != tt.errs {
			t.Errorf("%s: %v, %q, %q", name, err, out.String(), errs.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var out seen
	go func() {
		out.has(t, "ready")
		cancel()
	}()
	if err := command(ctx, execCommand(), strings.NewReader(""), &out, io.Discard, vm, "--", "sh", "-c", "echo ready; sleep 1000"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	err = command(t.Context(), execCommand(), strings.NewReader(""), w, io.Discard, vm, "--", "yes")
	if status, ok := errors.AsType[programStatus](err); !ok || status != 128+programStatus(unix.SIGPIPE) {
		t.Errorf("nobody reads: %v", err)
	}
}

// terminal opens a pseudo terminal.
func terminal(t *testing.T) (user, tty *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { user.Close() })
	fd := int(user.Fd())
	err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	n, failed := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err := errors.Join(err, failed, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 12, Col: 34})); err != nil {
		t.Fatal(err)
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return user, tty
}

// TestShellCommand works in a shell at a terminal: its size, Ctrl-C, Ctrl-A, and leaving.
func TestShellCommand(t *testing.T) {
	vm := programVM(t, server.Programs{})
	for name, leave := range map[string]struct {
		keys   string
		status programStatus
	}{"Ctrl-A X": {"\x01x", 0}, "Ctrl-D": {"\x04", 0}, "exit": {"exit 9\r", 9}} {
		user, tty := terminal(t)
		before, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		var out, errs seen
		done := make(chan error)
		go func() { done <- command(t.Context(), shellCommand(), tty, &out, &errs, vm) }()
		out.has(t, "#")
		io.WriteString(user, "stty size; echo $((6*7))\r")
		out.has(t, "12 34\r\n42\r\n")
		io.WriteString(user, "cat\rhere\r")
		out.has(t, "here\r\nhere\r\n") // the terminal's echo, and cat: it is in the foreground
		io.WriteString(user, "\x03\x01h")
		errs.has(t, "Ctrl-A X leaves")
		out.has(t, "^C\r\n# ") // what is typed before the prompt is lost with the program
		io.WriteString(user, "echo $((7*8))\r")
		out.has(t, "56\r\n")
		io.WriteString(user, leave.keys)
		err = <-done
		if status, _ := errors.AsType[programStatus](err); status != leave.status || (err != nil) != (status != 0) {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS); err != nil || *after != *before {
			t.Errorf("the terminal is not as it was: %+v, %v", after, err)
		}
	}
}

func TestConsoleCommand(t *testing.T) {
	var one, two console.Port
	var typed seen
	vm := programVM(t, server.Programs{Consoles: [2]server.Console{
		{Output: &one, Type: func(b []byte) int { n, _ := typed.Write(b); return n }},
		{Output: &two},
	}})
	one.Write([]byte("login: "))
	user, tty := terminal(t)
	var out, errs seen
	done := make(chan error)
	go func() { done <- command(t.Context(), consoleCommand(), tty, &out, &errs, vm) }()
	out.has(t, "login: ")
	io.WriteString(user, "root\r\x03\x01\x01")
	typed.has(t, "root\r\x03\x01")
	one.Write([]byte("Password: "))
	out.has(t, "Password: ")
	io.WriteString(user, "\x01x")
	if err := <-done; err != nil {
		t.Error(err)
	}
	errs.has(t, "COM1; Ctrl-A X leaves")

	ctx, cancel := context.WithCancel(t.Context())
	out = seen{}
	go func() {
		done <- command(ctx, consoleCommand(), strings.NewReader("dropped"), &out, io.Discard, vm, "--read-only", "--json")
	}()
	out.has(t, `{"data":"login: Password: "}`)
	cancel() // Ctrl-C
	if err := <-done; err != nil {
		t.Error(err)
	}
	if strings.Contains(typed.String(), "dropped") {
		t.Errorf("%q", typed.String())
	}
	two.Write(make([]byte, 100<<10)) // more than is kept
	errs = seen{}
	ctx, cancel = context.WithCancel(t.Context())
	go func() {
		done <- command(ctx, consoleCommand(), strings.NewReader(""), io.Discard, &errs, vm, "--port", "2")
	}()
	errs.has(t, "86016 bytes are missing here")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// Nobody may type there.
	err := command(t.Context(), consoleCommand(), strings.NewReader("x"), io.Discard, io.Discard, vm, "--port", "2")
	if qemu.OutcomeOf(err) != handoff.OutcomeBadConfig || !strings.Contains(err.Error(), "type") {
		t.Error(err)
	}
}

func TestCatCommand(t *testing.T) {
	vm := programVM(t, server.Programs{})
	dir := t.TempDir()
	name, to := filepath.Join(dir, "file"), filepath.Join(dir, "copy")
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs seen
	if err := command(t.Context(), catCommand(), nil, &out, &errs, vm, name); err != nil || out.String() != string(data) || errs.String() != "" {
		t.Errorf("%d bytes, %v", len(out.String()), err)
	}
	for range 2 { // the second time it is there
		out = seen{}
		err := command(t.Context(), catCommand(), nil, &out, &errs, vm, name, "-o", to, "--json")
		got, failed := os.ReadFile(to)
		if err != nil || failed != nil || !bytes.Equal(got, data) || !strings.Contains(out.String(), `"bytes": 500000`) {
			t.Errorf("%v, %v, %d bytes, %q", err, failed, len(got), out.String())
		}
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if err := command(t.Context(), catCommand(), nil, full, &errs, vm, name); qemu.OutcomeOf(err) != handoff.OutcomeInternal || !strings.Contains(err.Error(), "make room") {
		t.Errorf("a full disk: %v", err)
	}
	// What fails leaves what there was, and nothing else.
	err = command(t.Context(), catCommand(), nil, &out, &errs, vm, name+".none", "-o", to)
	got, failed := os.ReadFile(to)
	left, _ := os.ReadDir(dir)
	if qemu.OutcomeOf(err) != handoff.OutcomeUsage || failed != nil || !bytes.Equal(got, data) || len(left) != 2 {
		t.Errorf("%v, %v, %d bytes, %v", err, failed, len(got), left)
	}
}

// TestSave tries what becomes of a file when its writing fails.
func TestSave(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	_, err := save(path, io.Discard, io.Discard, func(w io.Writer) error {
		_, err := w.Write([]byte("half"))
		return errors.Join(err, fmt.Errorf("write: %w", syscall.ENOSPC))
	})
	if _, gone := os.Stat(path); !os.IsNotExist(gone) || qemu.OutcomeOf(err) != handoff.OutcomeInternal || !strings.Contains(err.Error(), "after 4 bytes") {
		t.Errorf("%v, %v", err, gone)
	}
	_, err = save(path, io.Discard, io.Discard, func(w io.Writer) error {
		_, err := w.Write([]byte("short"))
		return errors.Join(err, client.ErrCut)
	})
	if b, failed := os.ReadFile(path); string(b) != "short" || failed != nil || qemu.OutcomeOf(err) != handoff.OutcomeVMLost {
		t.Errorf("%v, %q, %v", err, b, failed)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for _, bad := range []string{filepath.Join(dir, "none", "file"), dir, "/dev/null"} {
		if _, err := save(bad, io.Discard, io.Discard, func(io.Writer) error { t.Error("it began"); return nil }); qemu.OutcomeOf(err) != handoff.OutcomeUsage {
			t.Errorf("%s: %v", bad, err)
		}
	}
	_, tty := terminal(t)
	if _, err := save("-", tty, io.Discard, nil); qemu.OutcomeOf(err) != handoff.OutcomeUsage {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestProfileCommands(t *testing.T) {
	vm := programVM(t, server.Programs{Restart: map[string]func(context.Context) error{"tpm": func(context.Context) error { return nil }}})
	t.Chdir(t.TempDir())
	for _, tt := range []struct {
		cmd  func() *cobra.Command
		args []string
		file string
	}{
		{profileCommand, []string{vm, "heap"}, "vsock-heap.pprof"},
		{profileCommand, []string{vm, "cpu", "--seconds", "1"}, "vsock-cpu.pprof"},
		{traceCommand, []string{vm, "--seconds", "1"}, "vsock.trace"},
		{coreCommand, []string{vm}, "vsock.core"},
		{coreCommand, []string{vm, "paravisor", "-o", "my.core"}, "my.core"},
	} {
		var out, errs seen
		err := command(t.Context(), tt.cmd(), nil, &out, &errs, tt.args...)
		info, failed := os.Stat(tt.file)
		if err != nil || failed != nil || info.Size() == 0 || out.String() != "" || !strings.Contains(errs.String(), tt.file+" has ") {
			t.Errorf("%q: %v, %v, %q, %q", tt.args, err, failed, out.String(), errs.String())
		}
	}
	var out seen
	if err := command(t.Context(), profileCommand(), nil, &out, io.Discard, vm, "heap", "-o", "-"); err != nil || !strings.HasPrefix(out.String(), "\x1f\x8b") {
		t.Errorf("%v, %d bytes", err, len(out.String()))
	}
	if err := command(t.Context(), restartCommand(), nil, &out, io.Discard, vm, "tpm", "--json"); err != nil || !strings.Contains(out.String(), `"restarted": "tpm"`) {
		t.Errorf("%v", err)
	}
}

// TestProgramRefusals checks the outcomes of what cannot be done.
func TestProgramRefusals(t *testing.T) {
	vm := programVM(t, server.Programs{})
	secret := diagVM(t, true)
	t.Chdir(t.TempDir())
	for name, tt := range map[string]struct {
		args []string
		want handoff.Outcome
		says string
	}{
		"no program":       {[]string{"exec", vm}, handoff.OutcomeUsage, ""},
		"unknown program":  {[]string{"exec", vm, "--", "no-such-program"}, handoff.OutcomeUsage, "name a program"},
		"variable":         {[]string{"exec", "-e", "X", vm, "--", "true"}, handoff.OutcomeUsage, ""},
		"json and tty":     {[]string{"exec", "-t", "--json", vm, "--", "true"}, handoff.OutcomeUsage, ""},
		"exec, refused":    {[]string{"exec", secret, "--", "true"}, handoff.OutcomeBadConfig, "rule debug-programs"},
		"shell, refused":   {[]string{"shell", secret}, handoff.OutcomeBadConfig, "rule debug-programs"},
		"no file":          {[]string{"cat", vm, "/none"}, handoff.OutcomeUsage, "name a file"},
		"folder":           {[]string{"cat", vm, "/"}, handoff.OutcomeUsage, "folder"},
		"relative":         {[]string{"cat", vm, "x"}, handoff.OutcomeUsage, "absolute"},
		"json to nowhere":  {[]string{"cat", vm, "/proc/version", "--json"}, handoff.OutcomeUsage, ""},
		"cat, refused":     {[]string{"cat", secret, "/proc/version"}, handoff.OutcomeBadConfig, "rule debug-files"},
		"kind":             {[]string{"profile", vm, "none"}, handoff.OutcomeUsage, "heap"},
		"seconds":          {[]string{"profile", vm, "cpu", "--seconds", "0"}, handoff.OutcomeUsage, ""},
		"seconds of heap":  {[]string{"profile", vm, "heap", "--seconds", "1"}, handoff.OutcomeUsage, ""},
		"trace for long":   {[]string{"trace", vm, "--seconds", "301"}, handoff.OutcomeUsage, ""},
		"trace, refused":   {[]string{"trace", secret}, handoff.OutcomeBadConfig, "rule execution-trace"},
		"core of nobody":   {[]string{"core", vm, "none"}, handoff.OutcomeUsage, "name paravisor"},
		"core of the TPM":  {[]string{"core", vm, "tpm"}, handoff.OutcomeBadConfig, "rule tpm-secrets"},
		"core, refused":    {[]string{"core", secret}, handoff.OutcomeBadConfig, "rule memory-dumps"},
		"no worker":        {[]string{"restart", vm, "tpm"}, handoff.OutcomeUsage, "name one"},
		"restart, refused": {[]string{"restart", secret, "tpm"}, handoff.OutcomeBadConfig, "rule worker-restart"},
		"port":             {[]string{"console", vm, "--port", "3"}, handoff.OutcomeUsage, ""},
		"console off":      {[]string{"console", vm}, handoff.OutcomeBadConfig, "lets nothing out"},
		"console, refused": {[]string{"console", secret}, handoff.OutcomeBadConfig, "rule console-output"},
	} {
		err := execute(t.Context(), append([]string{"diag"}, tt.args...))
		if err == nil || qemu.OutcomeOf(err) != tt.want || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "; ") || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %s: %v", name, qemu.OutcomeOf(err), err)
		}
	}
	if left, err := os.ReadDir("."); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestOwned: the owner of a confidential guest gets cores and traces that nobody else can
// read, and may restart its workers.
func TestOwned(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := owner.Keys{Signer: public}
	block, failed := ssh.MarshalPrivateKey(private, "")
	if keys.Recipient, err = owner.ParseRecipient(id.Recipient().String()); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	identity, key := file(t, "identity", id.String()+"\n"), file(t, "owner", string(pem.EncodeToMemory(block)))
	restarts := 0
	vm := serveDiag(t, server.Config{Root: tree{}, Confidential: true, Owner: keys, Programs: server.Programs{
		Restart: map[string]func(context.Context) error{"tpm": func(context.Context) error { restarts++; return nil }},
	}})
	t.Chdir(t.TempDir())
	for name, tt := range map[string]struct {
		cmd   func() *cobra.Command
		args  []string
		magic string
	}{
		"vsock.core":  {coreCommand, []string{vm}, "\x7fELF"},
		"vsock.trace": {traceCommand, []string{vm, "--seconds", "1"}, "go 1."},
	} {
		var errs seen
		if err := command(t.Context(), tt.cmd(), nil, io.Discard, &errs, tt.args...); err != nil || !strings.Contains(errs.String(), name+".age has ") {
			t.Fatalf("%s: %v, %q", name, err, errs.String())
		}
		if _, err := runOpen(t, "--identity", identity, name+".age", name); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(name); err != nil || !bytes.HasPrefix(b, []byte(tt.magic)) {
			t.Errorf("%s: %v, %d bytes", name, err, len(b))
		}
	}
	if err := command(t.Context(), restartCommand(), nil, io.Discard, io.Discard, vm, "tpm"); qemu.OutcomeOf(err) != handoff.OutcomeBadConfig || restarts != 0 {
		t.Errorf("without a signature: %v", err)
	}
	if err := command(t.Context(), restartCommand(), nil, io.Discard, io.Discard, vm, "tpm", "--owner-key", key); err != nil || restarts != 1 {
		t.Errorf("%v, %d restarts", err, restarts)
	}
}

// TestSpool: output is written behind, in order, up to a bound, and errors come back.
func TestSpool(t *testing.T) {
	r, w := io.Pipe()
	s := newSpool(w)
	var want bytes.Buffer
	for i := range 1000 {
		fmt.Fprintf(io.MultiWriter(&want, s), "line %d\n", i) // nobody reads yet
	}
	got := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(r)
		got <- b
	}()
	if err := s.close(); err != nil {
		t.Error(err)
	}
	w.Close()
	if b := <-got; !bytes.Equal(b, want.Bytes()) {
		t.Errorf("%d bytes, want %d", len(b), want.Len())
	}

	r, w = io.Pipe()
	s = newSpool(w)
	full := make(chan error)
	go func() {
		var err error
		for err == nil {
			_, err = s.Write(make([]byte, 1<<20))
		}
		full <- err
	}()
	s.mu.Lock()
	for len(s.buf) <= maxSpool {
		s.change.Wait()
	}
	if len(s.buf) > maxSpool+1<<20 {
		t.Errorf("%d bytes wait", len(s.buf))
	}
	s.mu.Unlock()
	r.CloseWithError(io.ErrClosedPipe)
	if err := <-full; !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	if err := s.close(); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}
