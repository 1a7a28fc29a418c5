// Command peerinit is PID 1 of the benchmarks' peers: the VTL2 kernel that Keel
// uses, with Debian's QEMU, or a program that is measured itself, instead of the
// paravisor. It does for QEMU what pvinit
// and the paravisor do for a guest, and speaks with the launcher as they do, so
// that both sides are measured by the same clock and the same accounts.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"github.com/u-root/u-root/pkg/libinit"
	"golang.org/x/sys/unix"

	"keel/boot/handoff"
	"keel/hcl/sys"
	"keel/paravisor/fwcfg"
	"keel/tests/bench/peer"
)

// hugePages is the kernel's count of persistent 2 MiB pages.
const hugePages = "/proc/sys/vm/nr_hugepages"

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "peerinit: runs as PID 1 of the benchmark's VM only")
		os.Exit(1)
	}
	runtime.LockOSThread() // fw_cfg grants port access to one thread; QEMU inherits its CPUs
	if err := run(); err != nil {
		slog.Error("the peer failed", "error", err)
	}
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		slog.Error("cannot power the VM off", "error", err)
	}
	for {
		_ = unix.Pause()
	}
}

// run starts QEMU and stays until it ends.
func run() error {
	for _, c := range namespace {
		if err := c.Create(); err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
	}
	p, err := openPorts()
	if err != nil {
		return err
	}
	c, err := load()
	if err != nil {
		return p.end(err)
	}
	p.send(handoff.Event{Event: handoff.EventInit})
	return p.end(p.nest(c))
}

// namespace is what QEMU needs beyond its files.
var namespace = []libinit.Creator{
	libinit.Mount{Source: "devtmpfs", Target: "/dev", FSType: "devtmpfs", Flags: unix.MS_NOSUID | unix.MS_NOEXEC},
	libinit.Mount{Source: "proc", Target: "/proc", FSType: "proc", Flags: unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV},
	libinit.Mount{Source: "sysfs", Target: "/sys", FSType: "sysfs", Flags: unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV},
	libinit.Mount{Source: "tmpfs", Target: "/tmp", FSType: "tmpfs", Flags: unix.MS_NOSUID | unix.MS_NODEV},
}

// load takes the configuration and QEMU's input files from the host. That is done
// before the clock starts: a user's QEMU would find them on a disk.
func load() (*peer.Config, error) {
	files, err := fwcfg.Open()
	if err != nil {
		return nil, err
	}
	defer files.Close()
	read := func(name string) ([]byte, error) {
		f, err := files.Find(name)
		if err != nil {
			return nil, err
		}
		b := make([]byte, f.Size)
		return b, files.Read(f, 0, b)
	}
	for name, path := range map[string]string{handoff.FileKernel: peer.KernelPath, handoff.FileInitrd: peer.InitrdPath} {
		b, err := read(name)
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	text, err := read(handoff.FileConfig)
	if err != nil {
		return nil, err
	}
	var c peer.Config
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, err
	}
	if c.SWTPM {
		return &c, errors.Join(startTPM(), await(c.Disk))
	}
	return &c, await(c.Disk)
}

// startTPM starts the TPM that QEMU will speak to: before the clock starts, as a user's
// would run already.
func startTPM() error {
	if err := os.Mkdir(peer.TPMFolder, 0o700); err != nil {
		return err
	}
	c := peer.SWTPM()
	tpm := exec.Command(c[0], c[1:]...)
	tpm.Stdout, tpm.Stderr = os.Stdout, os.Stderr
	if err := tpm.Start(); err != nil {
		return err
	}
	return await(peer.TPMSocket)
}

// diskPatience bounds the wait for a disk that the kernel is still looking at, or a
// socket.
const diskPatience = 30 * time.Second

// await waits for a file, unless its name is empty.
func await(path string) error {
	for deadline := time.Now().Add(diskPatience); path != ""; time.Sleep(2 * time.Millisecond) {
		_, err := os.Stat(path)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
	return nil
}

// nest runs QEMU and watches the memory meanwhile. Its console is the port that
// is the guest's console beneath Keel.
func (p *ports) nest(c *peer.Config) error {
	// Keel reserves its large pages after the clock started, too.
	if err := reserve(c.Memory); err != nil {
		return err
	}
	u, err := newUsage(c.Memory)
	if err != nil {
		return err
	}
	p.send(handoff.Event{Event: handoff.EventStart})
	// As Keel's VPs do: first all of QEMU, whose VPs are not yet there to be moved.
	if c.VPs > 0 {
		if err := sys.LeaveFirstCPU(); err != nil {
			return err
		}
	}
	qemu := exec.Command(c.Args[0], c.Args[1:]...)
	qemu.Env = []string{"PATH=/usr/bin"}
	said := &listener{to: p.log, stopped: make(chan struct{})}
	qemu.Stdin, qemu.Stdout, qemu.Stderr = p.console, p.console, said
	if err := qemu.Start(); err != nil {
		return err
	}
	if c.VPs > 0 {
		go func() {
			if err := spread(qemu.Process.Pid, c.VPs); err != nil {
				slog.Error("QEMU keeps off the first CPU", "error", err)
			}
		}()
	}
	ended := make(chan error, 1)
	go func() { ended <- qemu.Wait() }()
	tick := time.NewTicker(samplePeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			err = u.sample()
		case <-said.stopped:
			p.report(u)
			return errStopped
		case err = <-ended:
			p.report(u)
			return err
		}
		if err != nil {
			return err
		}
	}
}

func (p *ports) report(u *usage) {
	p.send(handoff.Event{Event: handoff.EventReport, Report: &handoff.Report{
		VTL2MemoryUsedBytes: u.last, VTL2MemoryPeakBytes: u.peak,
	}})
}

// errStopped says that QEMU halted its guest for good, and would wait for a user.
var errStopped = errors.New("QEMU stopped its guest: KVM internal error")

var errReserve = errors.New("too few large pages")

// reserve sets memory aside in large pages, as the paravisor does.
func reserve(memory uint64) error {
	want := strconv.FormatUint(memory>>21, 10)
	if err := os.WriteFile(hugePages, []byte(want), 0); err != nil {
		return err
	}
	got, err := os.ReadFile(hugePages)
	if err == nil && string(got) != want+"\n" {
		err = fmt.Errorf("%w: %q of %s", errReserve, got, want)
	}
	return err
}

// send writes an event for the launcher.
func (p *ports) send(e handoff.Event) {
	e.TimeMS = sys.SincePowerOn()
	line, err := json.Marshal(e)
	if err == nil {
		_, err = p.control.Write(append(line, '\n'))
	}
	if err != nil {
		slog.Error("cannot send an event", "event", e.Event, "error", err)
	}
}

// end tells the launcher how the run ended.
func (p *ports) end(err error) error {
	e := handoff.Event{Event: handoff.EventEnd, Outcome: handoff.OutcomePoweroff}
	if err != nil {
		e.Outcome, e.Message = handoff.OutcomeHostRefused, err.Error()
	}
	p.send(e)
	return err
}
