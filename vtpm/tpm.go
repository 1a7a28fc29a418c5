package vtpm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"keel/vtpm/wire"
)

var (
	// ErrState says that the TPM does not accept the committed state: it is damaged, or of
	// a newer engine. Nothing was changed.
	ErrState = errors.New("the TPM refuses its state")
	// ErrWorker says that no worker process runs the TPM, or that it broke the protocol.
	ErrWorker = errors.New("vTPM worker")
	// ErrStore says that state could not be loaded or committed.
	ErrStore = errors.New("vTPM state store")
	// ErrClosed says that the TPM was closed.
	ErrClosed = errors.New("the TPM is closed")
)

// Process is a worker process with its sockets, as paravisor/worker starts it.
type Process interface {
	// Socket returns the paravisor's end: 0 for commands, 1 for cancels.
	Socket(i int) *os.File
	// Ended is closed when the process has ended.
	Ended() <-chan struct{}
	// Stop closes the sockets, at which the process ends.
	Stop()
	// Kill ends the process, and waits for that.
	Kill()
}

// Sockets is how many sockets a worker needs.
const Sockets = 2

// DefaultTimeout is how long a command may run. PTP's longest command, the creation of
// an RSA key, has no bound; Linux waits 5 minutes for it.
const DefaultTimeout = 5 * time.Minute

// Config describes a TPM.
type Config struct {
	// Store keeps the permanent state.
	Store Store
	// Start starts a worker process. It bounds how often.
	Start func(ctx context.Context) (Process, error)
	// Timeout bounds the time of a command, after which the worker is killed. 0 stands
	// for DefaultTimeout.
	Timeout time.Duration
	// Log takes what went wrong. Nil: slog's default.
	Log *slog.Logger
}

// TPM is the guest's TPM 2.0. It implements Transport.
//
// A command either happened, with its permanent state committed and its volatile state
// here, before its response is seen; or it did not happen at all. When a worker dies the
// next one goes on from there, PCRs and all.
type TPM struct {
	cfg   Config
	count counters

	// turn holds a token while somebody owns what follows: a command under way, a
	// reset, the end.
	turn      chan struct{}
	jobs      chan struct{} // the command in job is ready
	job       job
	proc      Process
	replies   *wire.Reader
	seq       uint64   // of the last frame to this process
	permanent []byte   // committed
	volatile  []byte   // nil after power-on
	repeats   []repeat // commands since volatile
	unsound   bool     // the last commit failed
	undone    int      // rollbacks since the last reset
	frame     []byte   // buffer of what is sent

	closed chan struct{}
	ended  chan struct{} // run has returned

	mu        sync.Mutex
	current   uint64 // counts commands
	active    bool   // a command is under way
	cancelled bool   // it is to end early
	sentTo    *os.File
	sentSeq   uint64
}

// job is the command under way.
type job struct {
	locality uint8
	command  []byte
	done     func(response []byte)
}

// maxRollbacks bounds the commands that are undone between two resets: each of them may
// hide a failed authorization, which the TPM would else have counted.
const maxRollbacks = 32

// New loads the state and starts a worker with it. Where the store has none, a new TPM is
// manufactured and committed. The error wraps ErrStore, ErrState or ErrWorker.
func New(ctx context.Context, cfg Config) (*TPM, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	t := &TPM{
		cfg:    cfg,
		turn:   make(chan struct{}, 1),
		jobs:   make(chan struct{}, 1),
		closed: make(chan struct{}),
		ended:  make(chan struct{}),
	}
	var err error
	if t.permanent, err = cfg.Store.Load(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStore, err)
	}
	if len(t.permanent) > wire.MaxPermanent {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrState, len(t.permanent), wire.MaxPermanent)
	}
	if err := t.start(ctx); err != nil {
		return nil, err
	}
	t.job.command = make([]byte, 0, MaxBuffer)
	go t.run()
	return t, nil
}

// Submit starts a command: see Transport. After Close it returns false.
func (t *TPM) Submit(locality uint8, command []byte, done func(response []byte)) bool {
	select {
	case <-t.closed:
		return false
	default:
	}
	select {
	case t.turn <- struct{}{}:
	default:
		t.count.refused.Add(1)
		return false
	}
	t.begin(locality, command, done)
	t.jobs <- struct{}{}
	return true
}

// begin makes a command the one under way. It returns its number.
//
// Preconditions: the caller has the turn.
func (t *TPM) begin(locality uint8, command []byte, done func(response []byte)) uint64 {
	// One byte more than fits tells that it was too long.
	t.job = job{locality, append(t.job.command[:0], command[:min(len(command), MaxBuffer+1)]...), done}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current++
	t.active, t.cancelled = true, false
	return t.current
}

// finish runs the command that began and appends its response to b.
//
// Preconditions: the caller has the turn.
func (t *TPM) finish(b []byte) []byte {
	cc := code(t.job.command)
	b = t.execute(b)
	t.count.command(cc)
	t.count.response(RC(code(b)))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active, t.sentTo = false, nil
	return b
}

// Cancel asks the command under way to end early: see Transport.
func (t *TPM) Cancel() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel()
}

// cancel asks the command under way to end early.
//
// Preconditions: t.mu is held.
func (t *TPM) cancel() {
	if !t.active || t.cancelled {
		return
	}
	t.cancelled = true
	t.count.cancels.Add(1)
	if t.sentTo != nil {
		t.sendCancel()
	}
}

// Execute runs a command and waits for the response, for the paravisor's own use: it waits
// its turn among the guest's. When ctx ends it cancels the command, and the error wraps
// that of ctx. What the TPM refuses is a response: see ResponseCode.
func (t *TPM) Execute(ctx context.Context, locality uint8, command []byte) ([]byte, error) {
	if err := t.takeTurn(ctx); err != nil {
		return nil, err
	}
	mine := t.begin(locality, command, nil)
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.current == mine {
				t.cancel()
			}
		})
	}
	r := t.finish(nil)
	<-t.turn
	if !stop() {
		return nil, fmt.Errorf("TPM command: %w", ctx.Err())
	}
	return r, nil
}

// takeTurn waits for the turn.
func (t *TPM) takeTurn(ctx context.Context) error {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("TPM command: %w", ctx.Err())
	case <-t.closed:
		return ErrClosed
	}
	select {
	case <-t.closed:
		<-t.turn
		return ErrClosed
	default:
		return nil
	}
}

// run executes commands until the TPM is closed.
func (t *TPM) run() {
	defer close(t.ended)
	buf := make([]byte, 0, MaxBuffer)
	for {
		select {
		case <-t.jobs:
		case <-t.closed:
			// A command that has the turn was handed over, or will be.
			select {
			case t.turn <- struct{}{}:
				return
			case <-t.jobs:
			}
		}
		buf = t.finish(buf[:0])
		done := t.job.done
		<-t.turn
		done(buf)
	}
}

// Reset is a reset of the VM: power goes and comes back (_TPM_Init), in a process that
// the guest before has not touched. A command under way is cancelled. What the reset is
// to the TPM, the next Startup says (Library part 1 §12.2.4).
func (t *TPM) Reset(ctx context.Context) error {
	t.Cancel()
	if err := t.takeTurn(ctx); err != nil {
		return err
	}
	defer func() { <-t.turn }()
	t.count.resets.Add(1)
	t.drop(nil)
	t.volatile, t.repeats, t.undone = nil, nil, 0
	return t.start(ctx)
}

// Restart replaces the worker by a new process, which goes on where the old one was, PCRs
// and all, and waits its turn for that. Where the new one does not start the next command
// tries again. Errors: ErrWorker, ErrState, ErrStore, ErrClosed, that of ctx.
func (t *TPM) Restart(ctx context.Context) error {
	if err := t.takeTurn(ctx); err != nil {
		return err
	}
	defer func() { <-t.turn }()
	t.drop(nil)
	return t.start(ctx)
}

// closeTimeout bounds how long Close waits for a worker to end by itself.
const closeTimeout = time.Second

// Close takes the power away and ends the worker. A command under way is cancelled and
// answered. All that was answered is committed already.
func (t *TPM) Close() {
	t.mu.Lock()
	select {
	case <-t.closed:
		t.mu.Unlock()
		<-t.ended
		return
	default:
		close(t.closed)
	}
	t.cancel()
	t.mu.Unlock()
	<-t.ended
	t.drop(nil)
}
