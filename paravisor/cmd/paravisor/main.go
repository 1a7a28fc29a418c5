// Command paravisor is Keel's program in VTL2. As PID 1 it is pvinit, which starts it
// again as the process that runs the guest, with the channels to the launcher as file
// descriptors 3 (control), 4 (console), 5 (log) and 6 (its last words).
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"keel/boot/handoff"
	"keel/diag/server"
	"keel/diag/vsock"
	"keel/hcl"
	"keel/hcl/kvm"
	"keel/initramfs/pvinit"
	"keel/paravisor"
	"keel/paravisor/config"
	"keel/paravisor/fwcfg"
)

// Descriptors that pvinit passes.
const (
	fdControl = 3
	fdConsole = 4
	fdLog     = 5
	fdWords   = 6 // to pvinit, which leaves values out
)

func main() {
	if os.Getpid() == 1 {
		pvinit.Main()
	}
	// Port access for fw_cfg is granted to one thread.
	runtime.LockOSThread()
	os.Exit(run().ExitCode())
}

func run() handoff.Outcome {
	unix.CloseOnExec(fdWords)
	control, console, out := channel(fdControl, handoff.PortControl), channel(fdConsole, handoff.PortConsole), channel(fdLog, handoff.PortLog)
	logTo := func(level slog.Leveler, json bool) slog.Handler {
		options := &slog.HandlerOptions{Level: level}
		if json {
			return slog.NewJSONHandler(out, options)
		}
		return slog.NewTextHandler(out, options)
	}
	env := paravisor.Environment{
		Control: control, Console: console, Log: slog.New(logTo(slog.LevelInfo, false)), LogTo: logTo,
		Open: open, OpenOracle: func() (hcl.Partition, error) { return kvm.Open() },
		Devices:     assign,
		Listen:      func() (net.Listener, error) { return listen(handoff.VsockDiag, server.MaxClients) },
		ListenDebug: func() (net.Listener, error) { return listen(handoff.VsockDebug, 1) },
	}
	var err error
	if env.Handoff, err = handoff.Read(handoff.SysDir); err != nil {
		return paravisor.Refuse(env, "the VM was not started by Keel's boot shim", err)
	}
	manifest, err := os.ReadFile("/" + handoff.FileManifest)
	if err != nil {
		return paravisor.Refuse(env, "the image has no manifest", err)
	}
	if env.Policy, err = config.PolicyFor(flavour(env.Handoff), string(manifest)); err != nil {
		return paravisor.Refuse(env, "the image has no policy", err)
	}
	if env.Files, err = fwcfg.Open(); err != nil {
		return paravisor.Refuse(env, "the VM has no configuration device", err)
	}
	env.DialKeyServer = func(ctx context.Context) (net.Conn, error) { return vsock.DialHost(ctx, handoff.PortKeyServer) }
	env.Attester = func(c *config.Config) (hcl.Attester, error) { return attester(c, env.Handoff.Debug()) }
	env.WithholdWords = withholdWords
	env.Panic = env.Handoff.Debug() && asked(paravisor.PanicWord)
	return paravisor.Run(context.Background(), env)
}

// withholdWords makes pvinit read what the Go runtime says, instead of the host.
func withholdWords() error {
	return errors.Join(unix.Dup2(fdWords, unix.Stdout), unix.Dup2(fdWords, unix.Stderr))
}

// listen listens on a vsock port, for some clients at a time who wait.
func listen(port uint32, waiting int) (net.Listener, error) {
	l, err := vsock.Listen(port, waiting)
	if err != nil {
		return nil, err // not a nil *Listener in an interface
	}
	return l, nil
}

// asked tells whether the VTL2 kernel's command line has a word.
func asked(word string) bool {
	line, err := os.ReadFile("/proc/cmdline")
	return err == nil && slices.Contains(strings.Fields(string(line)), word)
}

func flavour(h *handoff.Handoff) string {
	if h.Debug() {
		return "debug"
	}
	return "release"
}

// channel makes an inherited descriptor a file that never blocks a thread.
func channel(fd int, name string) *os.File {
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		fmt.Fprintf(os.Stderr, "paravisor: descriptor %d (%s): %v; it is started by pvinit only\n", fd, name, err)
		os.Exit(handoff.OutcomeInternal.ExitCode())
	}
	return os.NewFile(uintptr(fd), name)
}
