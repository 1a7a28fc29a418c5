package paravisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"keel/boot/handoff"
	"keel/diag/console"
	"keel/diag/inspect"
	"keel/hcl"
	"keel/paravisor/config"
	"keel/vtl"
	"keel/vtl/guestmem"
)

// Environment is what the paravisor finds around itself.
type Environment struct {
	Handoff *handoff.Handoff
	Files   Files
	Policy  config.Policy
	// Open makes the partition that the configuration asks for, which is known to be
	// good, and OpenOracle the one with which Keel's execution is compared.
	Open       func(c *config.Config) (hcl.Partition, error)
	OpenOracle func() (hcl.Partition, error)
	// Attester returns the signature of the TEE that the configuration asks for. It is
	// called with isolation only.
	Attester func(c *config.Config) (hcl.Attester, error)
	// DialKeyServer connects with the key server that a configuration with SealReleased
	// counts on; nil where there is no way to one. The connection need not be trusted.
	DialKeyServer func(ctx context.Context) (net.Conn, error)
	// Devices gives access to what the host assigned, and lets that reach the
	// guest's memory unless it is nil. It is called when the guest has disks.
	Devices func(memory *guestmem.Memory) (Devices, error)
	// Listen makes the listener of the diagnostics service; nil for no service.
	Listen func() (net.Listener, error)
	// ListenDebug makes the one for a debugger of the guest; nil for none.
	ListenDebug func() (net.Listener, error)
	Control     io.ReadWriter // events out, commands in
	Console     io.ReadWriter // the guest's first serial port
	Log         *slog.Logger  // until the configuration is known
	// LogTo makes the log that goes to the host.
	LogTo func(level slog.Leveler, json bool) slog.Handler
	// WithholdWords makes what the Go runtime says of a crash of the paravisor leave the
	// VM without values. It is called where the guest is confidential.
	WithholdWords func() error
	// Panic makes the paravisor panic once the guest runs, so that tests see
	// what becomes of a defect.
	Panic bool
}

// PanicWord on the VTL2 kernel's command line sets Environment.Panic in debug
// images.
const PanicWord = "keel.panic"

// Times of the run's own housekeeping.
const (
	gcPercent    = 30                     // the heap's growth until it is collected
	samplePeriod = 250 * time.Millisecond // between looks at the memory in use
	drainTimeout = 2 * time.Second        // for the guest's last words
)

// Run runs one guest from configuration to end and returns how it ended. The
// launcher has been told by then.
// Preconditions: the goroutine is locked to its thread (port access).
func Run(ctx context.Context, env Environment) handoff.Outcome {
	ctl := &control{w: env.Control, log: env.Log}
	ctl.send(handoff.Event{Event: handoff.EventStart})
	k, err := prepare(env, ctl)
	if err != nil {
		return ctl.fail(err)
	}
	end, err := k.live(ctx)
	k.report()
	k.machine.disks.warn()
	if k.machine.tpm != nil {
		k.machine.tpm.close()
	}
	if k.machine.disks.controllers != nil {
		k.machine.disks.close()
	}
	if err != nil {
		return ctl.fail(k.discreet(err))
	}
	outcome := outcomeOf(end.Kind)
	ctl.send(handoff.Event{Event: handoff.EventEnd, Outcome: outcome, Message: k.told(end)})
	return outcome
}

// keel is a running paravisor.
type keel struct {
	env     Environment
	control *control
	config  *config.Config
	machine *machine
	payload *payload
	logs    logs
	gc      collector
	tee     hcl.Attester     // nil without isolation
	gate    *hcl.Gate        // to the host, nil without strict mode
	ports   [2]*console.Port // what diagnostics see of COM1 and COM2; nil: nothing

	changing atomic.Bool // a disk is being added or removed
	ending   atomic.Bool // the VM was asked to end, whatever the guest does

	mu     sync.Mutex
	usage  usage
	resets uint64
}

// prepare checks everything that can be refused, before a guest instruction
// runs.
func prepare(env Environment, ctl *control) (*keel, error) {
	c, err := readConfig(env.Files, env.Policy)
	if err != nil {
		return nil, err
	}
	k := &keel{control: ctl, config: c}
	if k.confidential() {
		if err := env.WithholdWords(); err != nil {
			return nil, err
		}
	}
	env.Log = k.logs.open(c, env.LogTo)
	ctl.log = env.Log
	k.logs.trace(c, &env.Policy, env.Log)
	// A VP thread in the guest holds none of Go's processors for long, but
	// timers and devices must never wait for one.
	runtime.GOMAXPROCS(c.VPs + 2)
	// Little is allocated while the guest runs, and memory is a budget.
	k.gc.set(gcPercent)
	if c.Memory >= env.Handoff.RAMBytes {
		return nil, tooLittle(c.Memory, env.Handoff.RAMBytes)
	}
	k.gate = k.newGate()
	env.guard(k.gate)
	k.env = env
	partition, err := env.Open(c)
	if err != nil {
		if errors.Is(err, hcl.ErrNotSupported) {
			return nil, &handoff.Failure{
				Outcome: handoff.OutcomeHostRefused, Cause: "the VM cannot run a guest", Err: err,
				Remedy: "start it with nested virtualization (a CPU model with svm or vmx)",
			}
		}
		return nil, err
	}
	if p, ok := partition.(hcl.Guarded); ok {
		p.Guard(k.gate)
	}
	var oracle hcl.Partition
	if c.Oracle {
		if oracle, err = env.OpenOracle(); err != nil {
			return nil, err
		}
	}
	memory, granule, err := allocate(c.Memory, env.Log)
	if err != nil {
		return nil, err
	}
	k.usage = usage{total: env.Handoff.RAMBytes, guest: memory.Size()}
	if k.payload, err = plan(env.Files, memory, granule, memoryMap(memory, c), c); err != nil {
		return nil, err
	}
	ctls, err := k.assigned(memory)
	if err != nil {
		return nil, err
	}
	if c.Isolation != config.IsolationNone {
		if k.tee, err = env.Attester(c); err != nil {
			return nil, err
		}
	}
	tpm, err := openTPM(c, k.tee, newKeyServer(env.DialKeyServer, k.gate), ctls, env.Log)
	if err != nil {
		return nil, err
	}
	if k.machine, err = build(partition, oracle, memory, c, tpm, k.logs.exits, env.Log); err != nil {
		return nil, err
	}
	k.machine.gate = k.gate
	if ctls != nil {
		k.machine.disks.use(ctls)
	}
	return k, k.machine.disks.addAll(c.Disks)
}

// assigned finds the controllers that the host has assigned, nil when there is no use
// for any.
func (k *keel) assigned(memory *guestmem.Memory) (*controllers, error) {
	if len(k.config.Disks) == 0 && (k.config.TPM == nil || k.config.TPM.StateSerial == "") {
		return nil, nil
	}
	if k.config.Isolation != config.IsolationNone {
		memory = nil // data goes through Keel's own pages, which the host may see
	}
	devices, err := k.env.Devices(memory)
	if err != nil {
		return nil, &handoff.Failure{
			Outcome: handoff.OutcomeHostRefused, Cause: "the VM cannot confine its disks", Err: err,
			Remedy: "start it with an IOMMU (keel run does)",
		}
	}
	return newControllers(devices, k.config.VPs, k.env.Log), nil
}

// live runs the guest until it ends for good, starting it over as often as it
// resets.
func (k *keel) live(ctx context.Context) (vtl.End, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go k.control.serve(ctx, k.env.Control, k.command)
	go k.watch(ctx)
	k.followConsoles()
	k.diagnose(ctx)
	if t := k.machine.tpm; t != nil && t.reports != nil {
		go t.reports.run(ctx)
	}
	defer time.AfterFunc(unusedPatience, k.machine.disks.warn).Stop()
	terminal := consoleFor(k.config.Console, k.env.Console)
	go func() {
		if err := k.machine.com1.Run(ctx, follow(k.ports[0], terminal), terminal); err != nil {
			k.env.Log.Error("the guest's console is lost", inspect.PublicAttr("error", err))
		}
	}()
	go func() { _ = k.machine.com2.Run(ctx, follow(k.ports[1], io.Discard), nil) }() // nothing is plugged in
	if err := k.machine.guest.Start(); err != nil {
		return vtl.End{}, err
	}
	for first := true; ; first = false {
		end, err := k.machine.boot(k.payload, k.config, func() {
			k.gate.Running(true)
			if first {
				k.control.send(handoff.Event{Event: handoff.EventEntry})
				// What loading and measuring took is not needed again.
				go debug.FreeOSMemory()
			}
			if k.env.Panic {
				panic("asked for by " + PanicWord)
			}
			if k.ending.Load() { // since the guest ended last
				k.end()
			}
		})
		k.gate.Running(false)
		if err == nil {
			err = strictFailure(k.gate)
		}
		if err != nil {
			return end, err
		}
		if err := k.machine.ended(); err != nil {
			return end, err
		}
		if end.Kind != vtl.EndReset {
			k.machine.com1.Drain(drainTimeout)
			return end, nil
		}
		k.mu.Lock()
		k.resets++
		k.mu.Unlock()
		k.env.Log.Info("the guest resets", "by", end.Message)
		k.control.send(handoff.Event{Event: handoff.EventReset})
	}
}

// command does what the launcher asks.
func (k *keel) command(c handoff.Command) {
	switch c.Command {
	case handoff.CommandNMI:
		if err := k.gate.Ask(hcl.HostNMI); err != nil {
			k.env.Log.Warn("the host asked for an NMI", inspect.PublicAttr("error", err))
			return
		}
		k.machine.guest.NMI()
	case handoff.CommandReport:
		k.report()
	case handoff.CommandShutdown:
		k.machine.pm.PowerButton()
	case handoff.CommandDiskAdd, handoff.CommandDiskRemove, handoff.CommandDiskHold, handoff.CommandDiskResume:
		if !k.changing.CompareAndSwap(false, true) {
			k.done(c, errors.New("another change is under way"))
			return
		}
		go func() { // it may wait for the host
			err := k.change(c)
			k.changing.Store(false)
			k.done(c, err)
		}()
	default:
		k.env.Log.Warn("refused an unknown command", inspect.PublicAttr("command", string(c.Command)))
	}
}

// change adds or removes a disk.
func (k *keel) change(c handoff.Command) error {
	d, err := config.ParseDisk(c.Disk)
	if err != nil {
		return err
	}
	if c.Command == handoff.CommandDiskAdd { // the host has its answer at once, not when a wait for the device ends
		if err := k.gate.Ask(hcl.HostDevice); err != nil {
			return err
		}
	}
	if k.machine.disks.controllers == nil {
		return errors.New("the guest was started without disks")
	}
	return k.machine.disks.command(c.Command, d)
}

// done tells the launcher what became of a command.
func (k *keel) done(c handoff.Command, err error) {
	e := handoff.Event{Event: handoff.EventDone, ID: c.ID}
	if err != nil {
		k.env.Log.Error("a change of disks failed", inspect.PublicAttr("command", string(c.Command)), inspect.PublicAttr("error", err))
		e.Message = err.Error()
	}
	k.control.send(e)
}

// watch keeps the peak of the memory in use until ctx ends.
func (k *keel) watch(ctx context.Context) {
	tick := time.NewTicker(samplePeriod)
	defer tick.Stop()
	for {
		k.mu.Lock()
		k.usage.sample()
		k.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// report sends the figures of the run so far.
func (k *keel) report() {
	k.mu.Lock()
	used := k.usage.sample()
	peak, resets := k.usage.peak, k.resets
	k.mu.Unlock()
	k.control.send(handoff.Event{Event: handoff.EventReport, Report: &handoff.Report{
		Exits:               k.machine.guest.Exits(),
		VTL2MemoryUsedBytes: used,
		VTL2MemoryPeakBytes: peak,
		Refused:             k.machine.refused(),
		Warnings:            k.machine.disks.unused(),
		GuestResets:         resets,
		State:               k.machine.state(),
	}})
}

// consoleFor narrows the console to what the configuration allows.
func consoleFor(c config.Console, port io.ReadWriter) io.ReadWriter {
	switch c {
	case config.ConsoleBothWays:
		return port
	case config.ConsoleOutputOnly:
		return halfDuplex{port}
	case config.ConsoleOff:
	}
	return halfDuplex{io.Discard}
}

// halfDuplex is a console on which nobody types.
type halfDuplex struct{ io.Writer }

// Read reports the end of input.
func (halfDuplex) Read([]byte) (int, error) { return 0, io.EOF }

var errBuild = errors.New("building the machine")

func buildError(err error) error { return fmt.Errorf("%w: %w", errBuild, err) }
