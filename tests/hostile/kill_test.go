package hostile

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/tests/harness"
)

// moments of a run at which it is killed.
var moments = []struct {
	name  string
	reach func(*testing.T, *harness.Run)
}{
	{"at once", func(*testing.T, *harness.Run) {}},
	{"before QEMU", func(*testing.T, *harness.Run) { time.Sleep(30 * time.Millisecond) }},
	{"while VTL2 boots", func(t *testing.T, r *harness.Run) {
		t.Helper()
		r.Until(t, "QEMU", func() bool { return vmProcess(r) != 0 })
		time.Sleep(500 * time.Millisecond)
	}},
	{"in the guest", func(t *testing.T, r *harness.Run) {
		t.Helper()
		r.Until(t, "output of the guest", func() bool { return strings.Contains(r.Console(), "!") })
	}},
}

// vmProcess returns the process of QEMU that runs the VM, or 0.
func vmProcess(r *harness.Run) int {
	for _, pid := range r.Processes() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if pid != r.Cmd.Process.Pid && strings.Contains(string(line), r.Name) {
			return pid
		}
	}
	return 0
}

// noisy starts a guest that talks without end.
func noisy(t *testing.T, flags ...string) *harness.Run {
	t.Helper()
	guest := program{code: flood}
	return tool.Start(t, append([]string{"--kernel", guest.write(t), "--mem", "128M"}, flags...)...)
}

// TestKill kills the tool in several ways at several moments. It leaves nothing
// behind, and says in one line why it ended where it can.
func TestKill(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGKILL} {
		for _, m := range moments {
			// The gentle signals take one path; each goes along a part of it.
			if !soak && signal != syscall.SIGTERM && signal != syscall.SIGKILL && m.name != "before QEMU" {
				continue
			}
			t.Run(fmt.Sprintf("%v %s", signal, m.name), func(t *testing.T) {
				t.Parallel()
				r := noisy(t)
				m.reach(t, r)
				if err := r.Cmd.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				checkKilled(t, r, signal)
			})
		}
	}
}

// checkKilled checks how a run ended that got a signal.
func checkKilled(t *testing.T, r *harness.Run, signal syscall.Signal) {
	t.Helper()
	select {
	case <-r.Ended:
	case <-time.After(20 * time.Second):
		t.Fatalf("the tool lives 20 s after %v", signal)
	}
	// A process that has just begun does not catch signals yet.
	status := r.Cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled() && status.Signal() == signal:
	case signal == syscall.SIGKILL || status.ExitStatus() != handoff.OutcomeQuit.ExitCode():
		t.Errorf("ended with %v", r.Cmd.ProcessState)
	case strings.Count(r.Stderr(), "\n") != 1:
		t.Errorf("stderr is not one line: %q", r.Stderr())
	}
	r.CheckLeftovers(t)
}

// TestQEMUKilled kills the VM from outside.
func TestQEMUKilled(t *testing.T) {
	t.Parallel()
	for _, m := range moments[2:] {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			r := noisy(t)
			m.reach(t, r)
			if err := syscall.Kill(vmProcess(r), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			r.Wait(t, handoff.OutcomeVMLost)
		})
	}
}

// TestQEMUStopped ends a run whose QEMU answers nothing any more.
func TestQEMUStopped(t *testing.T) {
	t.Parallel()
	r := noisy(t)
	moments[2].reach(t, r)
	if err := syscall.Kill(vmProcess(r), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := r.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.Wait(t, handoff.OutcomeQuit)
}

// TestNobodyReads lets the guest talk to a reader that never reads: neither memory
// grows nor does the run outlive its time.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	fifo := t.TempDir() + "/fifo"
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(fifo, os.O_RDWR, 0) // keeps the FIFO open, and full
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	r := noisy(t, "--console", fifo, "--timeout", "12s")
	begin := time.Now()
	checkReport(t, r.Wait(t, handoff.OutcomeTimeout))
	if took := time.Since(begin); took > 40*time.Second {
		t.Errorf("the run of 12 s took %v", took)
	}
}
