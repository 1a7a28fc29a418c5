// Package pvinit is PID 1 of the VTL2 kernel. It prepares the root file system,
// opens the channels to the launcher, runs the paravisor, reports when that
// crashes, and powers the VM off. Nothing that a guest controls reaches it.
//
// It is a part of the paravisor's program, which a second Go program would outweigh in
// the image and in memory, and a process of its own.
package pvinit

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/u-root/u-root/pkg/libinit"
	"golang.org/x/sys/unix"

	"keel/boot/handoff"
)

const (
	paravisorPath = "/bin/paravisor"
	shellPath     = "/bin/sh" // the debug image has one, the release image has none
	shellParam    = "keel.shell"
)

// Main is what PID 1 does. It does not return.
func Main() {
	start()
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		slog.Error("cannot power the VM off", "error", err)
	}
	// The kernel panics when PID 1 ends, so wait for the launcher to end the VM.
	for {
		_ = unix.Pause()
	}
}

// start runs the paravisor from its first to its last moment.
func start() {
	for _, c := range slices.Concat(namespace, terminals()) {
		if err := c.Create(); err != nil {
			slog.Error("cannot prepare the root file system", "step", c.String(), "error", err)
		}
	}
	ports, err := openPorts("/sys/class/virtio-ports", "/dev", portWait)
	if err != nil {
		// Without the control channel nobody would read an event.
		slog.Error("cannot open the channels to the launcher", "error", err)
		return
	}
	send(ports.control, handoff.Event{Event: handoff.EventInit, TimeMS: sincePowerOn()})
	if cmdline, err := os.ReadFile("/proc/cmdline"); err == nil && hasParam(string(cmdline), shellParam) {
		startShell()
	}
	status, err := run(ports)
	if message := crash(status, err); message != "" {
		slog.Error("the paravisor crashed", "cause", message)
		// The paravisor may have died inside a line: a line feed ends that.
		if err := write(ports.control, []byte{'\n'}, sendWait); err != nil {
			slog.Error("cannot write to the control channel", "error", err)
		}
		send(ports.control, handoff.Event{
			Event:   handoff.EventEnd,
			TimeMS:  sincePowerOn(),
			Outcome: handoff.OutcomeParavisorCrashed,
			Message: message,
		})
	}
}

// run runs the paravisor, and returns how it ended once its last words are in the log.
func run(p *ports) (unix.WaitStatus, error) {
	words, theirs, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		passOn(words, func(line string) {
			if err := write(p.log, []byte(line+"\n"), sendWait); err != nil {
				slog.Error("cannot write to the log", "error", err)
			}
		})
	}()
	status, err := supervise(paravisor(p, theirs))
	if err := errors.Join(theirs.Close(), words.SetReadDeadline(time.Now().Add(sendWait))); err != nil {
		slog.Error("cannot end the paravisor's last words", "error", err)
	}
	<-passed
	return status, err
}

// namespace is the root file system of VTL2. There is no hugetlbfs: guest memory
// is a memfd, which needs no mount.
var namespace = []libinit.Creator{
	libinit.Mount{Source: "devtmpfs", Target: "/dev", FSType: "devtmpfs", Flags: unix.MS_NOSUID | unix.MS_NOEXEC},
	libinit.Mount{Source: "proc", Target: "/proc", FSType: "proc", Flags: unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV},
	libinit.Mount{Source: "sysfs", Target: "/sys", FSType: "sysfs", Flags: unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV},
	libinit.Mount{Source: "tmpfs", Target: "/tmp", FSType: "tmpfs", Flags: unix.MS_NOSUID | unix.MS_NODEV, Opts: "size=1m"},
}

// terminals is where programs get terminals from, in images that have a shell to use one.
func terminals() []libinit.Creator {
	if _, err := os.Stat(shellPath); err != nil {
		return nil
	}
	return []libinit.Creator{
		libinit.Dir{Name: "/dev/pts", Mode: 0o755},
		libinit.Mount{Source: "devpts", Target: "/dev/pts", FSType: "devpts", Flags: unix.MS_NOSUID | unix.MS_NOEXEC},
	}
}

// hasParam reports whether the kernel command line holds the parameter.
func hasParam(cmdline, param string) bool {
	return slices.Contains(strings.Fields(cmdline), param)
}

// startShell runs a shell on the VTL2 kernel's console, where the image has one.
func startShell() {
	tty, err := os.OpenFile("/dev/ttyS0", os.O_RDWR, 0)
	if err != nil {
		slog.Error("cannot start a shell", "error", err)
		return
	}
	defer tty.Close()
	sh := libinit.Command(shellPath, libinit.WithTTYControl(true),
		libinit.WithStdin(tty), libinit.WithStdout(tty), libinit.WithStderr(tty))
	sh.Env = []string{"PATH=/bbin:/bin", "HOME=/", "TERM=vt100"}
	if err := sh.Start(); err != nil {
		slog.Error("cannot start a shell", "error", err)
	}
}
