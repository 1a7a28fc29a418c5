package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"time"

	"keel/boot/handoff"
)

// How long the launcher waits, each time for something that a sound VM does
// at once.
const (
	bootPatience   = 3 * time.Minute       // from power-on to the first event; TCG on a busy machine takes seconds
	alarmPatience  = time.Second           // from a panic to the end of the VM, for the rest of its words
	reportPatience = 2 * time.Second       // for a last report, when the launcher ends the run
	stopPatience   = 2 * time.Second       // for QEMU to quit when asked
	quietTime      = 30 * time.Millisecond // without output, after the end of the guest
	drainPatience  = 5 * time.Second       // for a reader of our output to take what is left
)

// ErrStart says that QEMU could not be started.
var ErrStart = errors.New("starting QEMU")

// How the shim and the VTL2 kernel begin to say that they cannot go on. The
// shim halts afterwards (boot/shim), the kernel restarts or hangs.
const (
	shimWords   = "keel: shim: "
	kernelWords = "Kernel panic - not syncing"
)

// session is one run from power-on to the end.
type session struct {
	opts    *Options
	proc    *process
	ch      channels
	monitor monitor
	live    *live
	typist  typist
	vtl2    *tail // VTL2 kernel console
	log     *tail // paravisor log
	stderr  *tail // QEMU's own
	events  chan handoff.Event
	output  chan error    // why nobody takes the console's output any more
	console *watched      // where the console's output goes
	copied  chan struct{} // closed when the console's copy ended
	report  *Report
	vm      VM // what others are told
}

// Run boots a guest and stays until the run is over. The report is complete
// even when there is an error; the error is nil after a power-off, and else a
// *handoff.Failure, or what went wrong in the launcher. Canceling ctx ends the
// run as the user does.
func Run(ctx context.Context, o *Options, t *Terminal) (*Report, error) {
	r := &Report{Name: o.Name, VPs: o.VPs, GuestMemoryBytes: o.Memory, ImageBytes: o.ImageBytes}
	err := run(ctx, o, t, r)
	r.Conclude(err)
	return r, err
}

// Conclude notes how the run ended.
func (r *Report) Conclude(err error) {
	r.Outcome = handoff.OutcomePoweroff
	if err != nil {
		r.Outcome, r.Message = OutcomeOf(err), oneLine(err.Error())
	}
	r.ExitCode = r.Outcome.ExitCode()
}

func run(ctx context.Context, o *Options, t *Terminal, r *Report) error {
	if err := o.Validate(); err != nil {
		return err
	}
	qemu, err := findQEMU(o.QEMU)
	if err != nil {
		return err
	}
	if r.QEMUVersion, err = qemuVersion(ctx, qemu); err != nil {
		return err
	}
	host := os.DirFS("/")
	if r.Accel, err = chooseAccel(o.Accel, host, openKVM); err != nil {
		return err
	}
	loader, err := chooseLoader(ctx, qemu, o.Loader)
	if err != nil {
		return err
	}
	size := cmp.Or(o.VMMemory, vmMemory(o.Memory, o.Disks, o.VPs, o.TPM)+imageReserve(o.ImageBytes))
	if err := checkMemory(o.Memory, size, host); err != nil {
		return err
	}
	out, closeFiles, err := openOutputs(o, t)
	if err != nil {
		return err
	}
	defer closeFiles()

	s := &session{
		opts: o, report: r,
		vtl2: newTail(isFatal), log: newTail(isPanic), stderr: newTail(nil),
		events: make(chan handoff.Event, 16), output: make(chan error, 1), copied: make(chan struct{}), console: &watched{to: out.console},
		typist: typist{term: t, quit: make(chan struct{}), queue: make(chan []byte, inputQueue)},
	}
	var files inherited
	defer files.close()
	numbers, ch, err := files.open(o)
	s.ch = ch
	defer s.ch.close()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	listener := claim(o.Name)
	if listener != nil {
		defer listener.Close()
	}
	vsock, err := openVsock(o.Name, listener != nil)
	if err != nil {
		return err
	}
	defer func() {
		if w := vsock.end(); w != "" {
			r.Warnings = append(r.Warnings, w)
		}
	}()
	if o.KeyServer != "" {
		keys, err := openRelay(ctx, vsock.path, handoff.PortKeyServer, o.KeyServer)
		if err != nil {
			return err
		}
		defer keys.close()
	}
	numbers.vsock = files.add(vsock.Peer())
	s.vm = VM{Name: o.Name, PID: os.Getpid(), Since: time.Now().Round(0), VPs: o.VPs, Memory: o.Memory, Vsock: vsock.path}
	args := arguments(machine{
		name: o.Name, accel: r.Accel, version: r.QEMUVersion, loader: loader, hostCPUs: runtime.NumCPU(), vps: o.VPs, size: size,
		disks: o.Disks, tpm: o.TPM, fds: numbers, extra: o.ExtraArgs,
	})
	if s.proc, err = start(qemu, args, files.files, s.stderr); err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	files.close()
	s.monitor.conn, s.live = s.ch.qmp, newLive(s)
	defer s.proc.stop(s.monitor.quit, stopPatience)
	return s.stay(ctx, out, listener)
}

// stay runs the channels until the run is over and says how it ended.
func (s *session) stay(ctx context.Context, out outputs, listener *net.UnixListener) error {
	if out.stdio {
		defer s.typist.open()()
		go s.typist.read()
		go s.typist.write(s.ch.console)
	}
	go s.monitor.serve()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go s.live.listen(ctx, listener)
	go readEvents(s.ch.control, s.events, &s.report.BadEvents)
	vtl2Done := make(chan struct{})
	go func() { eachLine(tee(s.ch.vtl2, out.vtl2), s.vtl2.add); close(vtl2Done) }()
	go s.copyConsole()
	go eachLine(tee(s.ch.log, out.log), s.log.add)
	err := s.wait(ctx)
	if s.report.GuestEndMS != nil {
		s.console.quiet(drainPatience)
	}
	s.proc.stop(s.monitor.quit, stopPatience)
	select {
	case <-s.copied: // everything that the guest said is out
	case <-time.After(drainPatience):
	}
	<-vtl2Done
	for range s.events { // to its end: from then on nobody counts bad events
		continue
	}
	if errors.Is(err, errLost) {
		return s.lost()
	}
	return err
}

// errLost stands for a VM that is gone, or must go, without an EventEnd.
var errLost = errors.New("the VM ended without a word")

// wait returns when the run is over.
func (s *session) wait(ctx context.Context) error {
	var timeout <-chan time.Time
	if s.opts.Timeout > 0 {
		timeout = time.After(s.opts.Timeout)
	}
	boot, alarm := time.After(bootPatience), (<-chan time.Time)(nil)
	panicked := s.vtl2.alarm
	for {
		select {
		case e, ok := <-s.events:
			if !ok {
				return errLost // QEMU is gone, and every event was seen
			}
			boot = nil
			s.report.apply(&e)
			s.live.heard(&e)
			if e.Event == handoff.EventEnd {
				return s.verdict(&e)
			}
		case <-panicked:
			panicked, alarm = nil, time.After(alarmPatience)
		case <-alarm:
			return errLost
		case <-boot:
			return failure(handoff.OutcomeVMLost, fmt.Sprintf("Keel did not start within %v%s", bootPatience, s.words()),
				"look at the load of the host")
		case <-timeout:
			s.lastReport()
			return failure(handoff.OutcomeTimeout, fmt.Sprintf("the guest still ran after --timeout %v", s.opts.Timeout),
				"allow more time, or see --console and --log for what it did")
		case <-ctx.Done():
			s.lastReport()
			return ended(ctx)
		case <-s.typist.quit:
			s.lastReport()
			return failure(handoff.OutcomeQuit, "ended by Ctrl-A X", "")
		case err := <-s.output:
			return &handoff.Failure{Outcome: handoff.OutcomeQuit, Cause: "nobody takes the console output any more", Err: err}
		}
	}
}

// ended is the failure of a run that the user ended by canceling ctx.
func ended(ctx context.Context) error {
	return failure(handoff.OutcomeQuit, "ended: "+context.Cause(ctx).Error(), "")
}

// verdict turns the VM's last word into the result of the run.
func (s *session) verdict(e *handoff.Event) error {
	if e.Outcome == handoff.OutcomePoweroff {
		return nil
	}
	f := failure(e.Outcome, e.Message, "")
	if e.Message == "" {
		f.Cause = "the VM says " + string(e.Outcome)
	}
	if e.Outcome == handoff.OutcomeParavisorCrashed && s.opts.Log == "" {
		f.Remedy = "run again with --log FILE for its stack"
	}
	return f
}

// lost says what is known about a VM that ended without a word.
func (s *session) lost() error {
	if _, why, refused := strings.Cut(s.vtl2.quote(), shimWords); refused {
		return failure(handoff.OutcomeHostRefused, "the boot shim refuses this VM: "+why, "use another QEMU, or report a defect of Keel")
	}
	cause := errLost.Error()
	if r := s.monitor.shutdownReason(); r != "" && r != "host-qmp-quit" {
		cause += " (" + r + ")"
	}
	return failure(handoff.OutcomeVMLost, cause+s.words(), "run again with --log FILE, or report a defect of Keel")
}

// words quotes what VTL2 and QEMU said last.
func (s *session) words() string {
	var b strings.Builder
	if q := s.vtl2.quote(); q != "" {
		b.WriteString("; its kernel said: " + q)
	}
	if q := s.log.quote(); q != "" {
		b.WriteString("; its log ends: " + q)
	}
	if q := s.stderr.quote(); q != "" {
		b.WriteString("; QEMU said: " + q)
	}
	return b.String()
}

// lastReport asks Keel for the figures of a run that the launcher ends.
func (s *session) lastReport() {
	if s.report.ParavisorStartMS == nil {
		return // nobody is there to answer
	}
	deadline := time.Now().Add(reportPatience)
	if s.ch.control.SetWriteDeadline(deadline) != nil {
		return
	}
	if _, err := io.WriteString(s.ch.control, `{"command":"`+string(handoff.CommandReport)+"\"}\n"); err != nil {
		return
	}
	after := time.After(time.Until(deadline))
	for {
		select {
		case e, ok := <-s.events:
			if !ok {
				return
			}
			s.report.apply(&e)
			if e.Report != nil {
				return
			}
		case <-after:
			return
		}
	}
}

// isFatal finds the lines after which the VTL2 kernel does nothing more.
func isFatal(line string) bool {
	return strings.Contains(line, shimWords) || strings.Contains(line, kernelWords)
}

// isPanic finds the line with which a Go program begins to die.
func isPanic(line string) bool {
	return strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:")
}
