package pvinit

import (
	"fmt"
	"os"
	"os/exec"
	"slices"

	"github.com/u-root/u-root/pkg/libinit"
	"golang.org/x/sys/unix"

	"keel/boot/handoff"
)

// goPanic is the exit status of a Go program that panicked. It is the status of
// OutcomeUsage as well, which only the launcher uses.
const goPanic = 2

// paravisor returns the command that runs the paravisor: descriptor 3 is the
// control channel, 4 the console, 5 the log, which gets stdout and stderr too. A
// panic's stack thereby reaches the host without pvinit's help. 6 is for what a paravisor
// says whose guest is confidential: it puts that in the place of stdout and stderr.
func paravisor(p *ports, words *os.File) *exec.Cmd {
	cmd := libinit.Command(paravisorPath, libinit.WithTTYControl(false),
		libinit.WithStdin(nil), libinit.WithStdout(p.log), libinit.WithStderr(p.log))
	cmd.Env = []string{"PATH=/bin"}
	cmd.ExtraFiles = []*os.File{p.control, p.console, p.log, words}
	return cmd
}

// supervise starts the command, reaps every process that ends, as PID 1 must, and
// returns how the command ended.
func supervise(cmd *exec.Cmd) (unix.WaitStatus, error) {
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait: %w", err)
		}
		if pid == cmd.Process.Pid {
			return status, nil
		}
	}
}

// verdicts are the outcomes that the paravisor reports itself before it exits.
var verdicts = []handoff.Outcome{
	handoff.OutcomePoweroff, handoff.OutcomeInternal, handoff.OutcomeBadKernel, handoff.OutcomeBadInitrd,
	handoff.OutcomeBadImage, handoff.OutcomeBadConfig, handoff.OutcomeHostRefused,
	handoff.OutcomeTooLittleMemory, handoff.OutcomeBadVPCount, handoff.OutcomeGuestCrashed,
	handoff.OutcomeTimeout, handoff.OutcomeQuit, handoff.OutcomeBadDisk, handoff.OutcomeBadState,
}

// crash says in one line how the paravisor crashed, or nothing when it ended with
// the exit code of an outcome.
func crash(status unix.WaitStatus, err error) string {
	const remedy = "; its last words are in the log (--log FILE)"
	switch {
	case err != nil:
		return fmt.Sprintf("cannot run the paravisor: %v; rebuild the image", err)
	case status.Signaled():
		return fmt.Sprintf("the paravisor was killed by %v%s", unix.SignalName(status.Signal()), remedy)
	case status.ExitStatus() == goPanic:
		return "the paravisor panicked" + remedy
	case slices.ContainsFunc(verdicts, func(o handoff.Outcome) bool { return o.ExitCode() == status.ExitStatus() }):
		return ""
	}
	return fmt.Sprintf("the paravisor exited with unknown status %d%s", status.ExitStatus(), remedy)
}
