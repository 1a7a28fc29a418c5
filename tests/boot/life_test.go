package boot

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/tests/guest"
	"keel/tests/harness"
)

// TestShell is "make run" with a user: a shell, typing, job control, a restart, and
// a power-off.
func TestShell(t *testing.T) {
	t.Parallel()
	p := tool.StartSession(t, "--kernel", payload.kernels["6.1"], "--initrd", payload.shell, "--append", "console=ttyS0 quiet", "--vps", "2")
	p.Expect(t, "keel-guest:/# ")
	p.Send(t, "echo $((6*7)) on $(nproc); cat\r")
	p.Expect(t, "42 on 2\r\n")
	p.Send(t, "typed\r")
	p.Expect(t, "typed\r\n") // the terminal's echo
	p.Expect(t, "typed\r\n") // cat: only now is it there to be interrupted
	p.Send(t, "\x03")
	p.Expect(t, "keel-guest:/# ")
	p.Send(t, "reboot\r")
	p.Expect(t, "KEEL-GUEST userspace")
	p.Expect(t, "keel-guest:/# ")
	p.Send(t, "poweroff\r")
	if report := p.Wait(t, handoff.OutcomePoweroff); report.Resets != 1 {
		t.Errorf("the report counts %d resets, want 1", report.Resets)
	}
}

// TestReboot restarts guests in the ways that Linux knows (kernel parameter
// reboot=): ACPI's reset register, which is the default, the keyboard controller,
// and port CF9h.
func TestReboot(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, kernel, params, isolation string }{
		{"acpi", "6.1", "reboot=a", "none"},
		{"i8042", "5.10", "reboot=k", "none"},
		{"cf9, isolated", "6.1", "reboot=p", "snp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := tool.Start(t, append(programFlags(tt.kernel, 2, tt.params, guest.CheckReboot), "--isolation", tt.isolation)...)
			report := r.Wait(t, handoff.OutcomePoweroff)
			console := guest.Parse(r.Console())
			if err := console.Check(guest.CheckReboot); err != nil {
				t.Error(err)
			}
			if console.Boots != 2 || report.Resets != 1 {
				t.Errorf("%d boots and %d resets, want 2 and 1", console.Boots, report.Resets)
			}
		})
	}
}

// TestEndings ends a guest that does not end by itself.
func TestEndings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		flags  []string
		signal os.Signal
		keys   string
		tool   []string // commands, with the name of the VM behind them
		want   handoff.Outcome
	}{
		{"timeout", []string{"--timeout", "20s"}, nil, "", nil, handoff.OutcomeTimeout},
		{"terminated", nil, syscall.SIGTERM, "", nil, handoff.OutcomeQuit},
		{"interrupted", nil, os.Interrupt, "", nil, handoff.OutcomeQuit},
		{"forced, while paused", nil, nil, "", []string{"pause", "shutdown --force"}, handoff.OutcomeForcedOff},
		{"Ctrl-A X", nil, nil, "\x01x", nil, handoff.OutcomeQuit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := idle(t, tt.flags...)
			if tt.signal != nil {
				hit(t, p, tt.signal)
			}
			if tt.keys != "" {
				p.Send(t, tt.keys)
			}
			for _, command := range tt.tool {
				keelTool(t, handoff.OutcomePoweroff, append([]string{"diag"}, append(strings.Fields(command), p.Name)...)...)
			}
			p.Wait(t, tt.want)
		})
	}
}

// TestKilled kills the launcher, which cannot clean up then.
func TestKilled(t *testing.T) {
	t.Parallel()
	p := idle(t)
	hit(t, p, syscall.SIGKILL)
	<-p.Ended
	p.CheckLeftovers(t)
}

// TestFullConsole boots with everything that the kernel has to say, as a user does.
func TestFullConsole(t *testing.T) {
	t.Parallel()
	flags := programFlags("6.1", 1, "loglevel=7", guest.CheckCPUs)
	r := tool.Start(t, flags...)
	r.Wait(t, handoff.OutcomePoweroff)
	if err := guest.Parse(r.Console()).Check(guest.CheckCPUs); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"Linux version 6.1", "Run /init as init process"} {
		if !strings.Contains(r.Console(), want) {
			t.Errorf("the console lacks %q", want)
		}
	}
}

// TestSoak boots 30 guests in a row; none may fail or stall. Without KEEL_SOAK they
// are two.
func TestSoak(t *testing.T) {
	kernels := []string{"6.1", "5.10"}
	boots := 2
	if harness.Soak() {
		boots = 30
	}
	for i := range boots {
		r := tool.Start(t, programFlags(kernels[i%2], 1+i%4, "", guest.CheckCPUs)...)
		report := r.Wait(t, handoff.OutcomePoweroff)
		if err := guest.Parse(r.Console()).Check(guest.CheckCPUs); err != nil || report.Resets != 0 {
			t.Errorf("boot %d: %v, %d resets", i+1, err, report.Resets)
		}
		if t.Failed() {
			t.Fatalf("boot %d failed", i+1)
		}
		t.Logf("boot %d: %v", i+1, r.Cmd.ProcessState.UserTime().Round(time.Millisecond))
	}
}

// idle starts a guest and waits until it has nothing to do.
func idle(t *testing.T, flags ...string) *harness.Session {
	t.Helper()
	p := tool.StartSession(t, append([]string{
		"--kernel", payload.kernels["6.1"], "--initrd", payload.program, "--append", guest.Cmdline(1, guest.CheckIdle),
	}, flags...)...)
	if len(flags) == 0 {
		p.Expect(t, "note idle")
	}
	return p
}

func hit(t *testing.T, p *harness.Session, s os.Signal) {
	t.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}
