package paravisor

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"keel/boot/handoff"
	"keel/diag/inspect"
	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/paravisor/acpi"
	"keel/paravisor/config"
	"keel/paravisor/gueststate"
	"keel/paravisor/measure"
	"keel/paravisor/worker"
	"keel/vtl/bus"
	"keel/vtl/guestmem"
	"keel/vtl/irq"
	"keel/vtpm"
	"keel/vtpm/crb"
	"keel/vtpm/eventlog"
	"keel/vtpm/identity"
	"keel/vtpm/nv"
	"keel/vtpm/ppi"
	"keel/vtpm/tis"
)

// The worker that holds the guest's TPM, which the image has packed, and the first of
// its two users: no other process of VTL2 has them.
const (
	tpmPacked = "/bin/pvtpm.gz"
	tpmWorker = "/bin/pvtpm"
	tpmUser   = 1000
)

// tpmPatience bounds what is done with the TPM before the guest starts. Its first start
// makes RSA keys, which takes seconds where the processor is emulated.
const tpmPatience = 5 * time.Minute

// manufactured is the progress of a TPM that is complete.
const manufactured = 1

// tpm is the guest's TPM with all that the machine's firmware does for it.
type tpm struct {
	engine   *vtpm.TPM
	state    *nv.NV
	presence *ppi.Memory
	front    front
	ignored  func() uint64 // writes to the front that had no effect
	crb      bool
	log      *slog.Logger
	started  bool                    // by a boot before this one
	tee      hcl.Attester            // nil without isolation
	reports  *reporter               // nil unless a key server released the state's key
	keys     atomic.Pointer[tpmKeys] // of this boot
}

// front is how the guest reaches its TPM.
type front interface {
	bus.MMIODevice
	bus.Resetter
}

// openTPM starts the TPM that the configuration asks for, nil for none. Its state is on a
// disk of its own, which the guest never sees.
func openTPM(c *config.Config, tee hcl.Attester, server *keyServer, ctls *controllers, log *slog.Logger) (*tpm, error) {
	if c.TPM == nil {
		if err := os.Remove(tpmPacked); err != nil { // it would take memory for nothing
			log.Warn("the TPM's worker is in the way", inspect.PublicAttr("error", err))
		}
		return nil, nil
	}
	if err := unpack(tpmPacked, tpmWorker); err != nil {
		return nil, tpmError(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), tpmPatience)
	defer cancel()
	t := &tpm{presence: ppi.New(), log: log, crb: c.TPM.Interface == config.TPMCRB, tee: tee}
	var backing vtpm.Store = &memoryStore{}
	if c.TPM.StateSerial != "" {
		store, reports, err := openState(ctx, c, tee, server, ctls, log)
		if err != nil {
			return nil, err
		}
		backing, t.reports = store, reports
	}
	var err error
	if t.state, err = nv.Open(backing); err != nil {
		return nil, err
	}
	if err := t.presence.Restore(t.state.PPI()); err != nil {
		log.Warn("dropped a physical presence request", "error", err)
	}
	supervisor := worker.New(worker.Config{
		Name: "vtpm", Path: tpmWorker, UserID: tpmUser, Sockets: vtpm.Sockets, LockMemory: true, Log: log,
	})
	t.engine, err = vtpm.New(ctx, vtpm.Config{Store: t.state, Log: log, Start: func(ctx context.Context) (vtpm.Process, error) {
		p, err := supervisor.Start(ctx)
		if err != nil {
			return nil, err // not a nil *Process in an interface
		}
		return p, nil
	}})
	if err != nil {
		return nil, tpmError(err)
	}
	clock := irq.NewSystemClock()
	if t.crb {
		registers := crb.New(crb.Base, t.engine, clock)
		t.front, t.ignored = registers, func() uint64 { return registers.Stats().Refused }
	} else {
		registers := tis.New(t.engine, clock)
		t.front, t.ignored = registers, func() uint64 { return registers.Stats().Refused }
	}
	return t, nil
}

// unpack replaces a packed program by the program.
func unpack(packed, program string) error {
	from, err := os.Open(packed)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(program, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	z, err := gzip.NewReader(from)
	if err == nil {
		_, err = io.Copy(to, z)
	}
	return errors.Join(err, to.Close(), os.Remove(packed))
}

// openState opens the disk that keeps the TPM's state. The reporter is nil unless a key
// server remembers how far that has come.
func openState(
	ctx context.Context, c *config.Config, tee hcl.Attester, server *keyServer, ctls *controllers, log *slog.Logger,
) (*gueststate.Store, *reporter, error) {
	found, err := ctls.wait(ctx, []string{c.TPM.StateSerial})
	if err != nil {
		return nil, nil, badState("the disk for the TPM's state is not there", err)
	}
	namespaces := found[0].Namespaces()
	if len(namespaces) == 0 {
		return nil, nil, badState("the disk for the TPM's state has no namespace that can be used", nil)
	}
	provider, reports, err := stateKey(ctx, c, tee, server, log)
	if err != nil {
		return nil, nil, err
	}
	options := gueststate.Options{VM: c.GuestName, Provider: provider, Reset: c.TPM.Reset}
	if reports != nil {
		options.Confirm = func(m gueststate.Mark) (floor uint64, err error) { return reports.start(ctx, m) }
	}
	store, err := gueststate.Open(namespaces[0], options)
	if err != nil {
		return nil, nil, err
	}
	log.Info("the TPM's state", inspect.PublicAttr("report", store.Report().String()))
	if reports != nil {
		if err := reports.begin(ctx, store.Mark); err != nil {
			return nil, nil, err
		}
	}
	return store, reports, nil
}

func badState(cause string, err error) error {
	return &handoff.Failure{
		Outcome: handoff.OutcomeBadState, Cause: cause, Err: err, Remedy: "start the VM with keel run --tpm-state FILE",
	}
}

// tpmError says what a TPM that does not start means for the run.
func tpmError(err error) error {
	if errors.Is(err, vtpm.ErrState) {
		return &handoff.Failure{
			Outcome: handoff.OutcomeBadState, Cause: "the TPM does not accept its state", Err: err,
			Remedy: "use the Keel that wrote it, or give it up with " + gueststate.ResetOption,
		}
	}
	return fmt.Errorf("%w: %w", errTPM, err)
}

var errTPM = errors.New("starting the TPM")

// memoryStore keeps the state of a TPM without a disk, for as long as the VM lives.
type memoryStore struct{ state []byte }

// Load returns the state.
func (m *memoryStore) Load() ([]byte, error) { return m.state, nil }

// Commit keeps the state.
func (m *memoryStore) Commit(state []byte) error {
	m.state = append(m.state[:0], state...)
	return nil
}

// selfTest is TPM2_SelfTest of what was not tested yet (TPM 2.0 Part 3 §10.2): tag, size,
// code, fullTest.
var selfTest = []byte{0x80, 0x01, 0, 0, 0, 11, 0, 0, 0x01, 0x43, 0}

// firmware is the TPM as firmware uses it, before the guest runs.
type firmware struct {
	ctx    context.Context
	engine *vtpm.TPM
}

// Send executes a command.
func (f firmware) Send(command []byte) ([]byte, error) { return f.engine.Execute(f.ctx, 0, command) }

// bring brings the TPM to where a guest may have it: started, complete, with what inputs
// says of this boot measured, and the platform's hierarchy locked. It returns the event
// log.
func (t *tpm) bring(inputs func(banks []eventlog.Algorithm) (measure.Inputs, error)) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), tpmPatience)
	defer cancel()
	if t.started {
		if err := t.engine.Reset(ctx); err != nil {
			return nil, tpmError(err)
		}
	}
	t.started = true
	issuer, err := identity.NewTestCA()
	if err != nil {
		return nil, tpmError(err)
	}
	to := firmware{ctx, t.engine}
	platform, err := identity.Open(to, identity.Options{
		Issuer: issuer,
		Reset:  func() error { return t.engine.Reset(ctx) },
		Requests: func(tpm identity.TPM) (reset bool, err error) {
			_, err = t.presence.Process(tpm)
			return false, err
		},
		Report: t.report(),
	})
	if err != nil {
		return nil, tpmError(err)
	}
	keys, err := keysOf(platform)
	if err != nil {
		return nil, tpmError(err)
	}
	t.keys.Store(&keys)
	for _, s := range platform.Skipped() {
		t.log.Warn("the TPM keeps what the guest has made of it", "skipped", s)
	}
	if t.state.Progress() < manufactured {
		if err := t.state.Advance(manufactured); err != nil {
			return nil, tpmError(err)
		}
	}
	in, err := inputs(platform.Banks())
	if err != nil {
		return nil, tpmError(err)
	}
	events, err := measure.Events(platform.Banks(), in)
	if err != nil {
		return nil, tpmError(err)
	}
	result, err := measure.Extend(to, eventlog.AreaSize, events)
	if err != nil {
		return nil, tpmError(err)
	}
	if result.Dropped > 0 {
		t.log.Warn("the event log is full", "dropped", result.Dropped)
	}
	if err := platform.Lock(); err != nil {
		return nil, tpmError(err)
	}
	// Linux gives a self-test two seconds, which an emulated processor may need for what
	// was not tested yet. Now it is.
	if r, err := to.Send(selfTest); err != nil || vtpm.ResponseCode(r) != nil {
		return nil, tpmError(errors.Join(err, vtpm.ResponseCode(r)))
	}
	t.save() // what became of a request
	return result.Log, nil
}

// acpi describes the TPM to the guest.
func (t *tpm) acpi(memory *guestmem.Memory) *acpi.TPM {
	if t == nil {
		return nil
	}
	return &acpi.TPM{CRB: t.crb, Registers: acpi.Window{Base: tpmBase, Size: tpmSize}, Log: logArea(memory), PPI: ppi.Base}
}

// logArea is where the guest finds the event log: the end of its memory below 4 GiB.
func logArea(memory *guestmem.Memory) acpi.Window {
	low := memory.Regions()[0]
	return acpi.Window{Base: low.GPA + x86.GPA(low.Size()) - eventlog.AreaSize, Size: eventlog.AreaSize}
}

// save keeps the guest's physical presence request over a power-off.
func (t *tpm) save() {
	if err := t.state.SetPPI(t.presence.Marshal()); err != nil {
		t.log.Error("cannot keep the physical presence request", "error", err)
	}
}

// close takes the power away.
func (t *tpm) close() {
	t.save()
	t.engine.Close()
	if t.reports != nil {
		t.reports.tell(context.Background())
	}
}

// programs describes Keel's own userspace: the image's initramfs lists it.
func programs(banks []eventlog.Algorithm) (measure.Object, error) {
	f, err := os.Open("/" + handoff.FileManifest)
	if err != nil {
		return measure.Object{}, err
	}
	defer f.Close()
	return measure.Read(banks, "Keel "+Version, f)
}
