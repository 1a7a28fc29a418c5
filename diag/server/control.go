package server

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keel/diag/diagpb"
	"keel/diag/inspect"
)

// ErrState says that the VM's state does not allow what was asked. The text of an error
// that wraps it goes to the client.
var ErrState = errors.New("not now")

// Control is what the service of that name asks of the paravisor. Its methods may be
// called from any goroutine; each gives up when its context ends. Errors that wrap
// ErrState are the client's to see.
type Control interface {
	// VPs is how many virtual processors there are.
	VPs() int
	// Pause and Resume return whether the guest was paused.
	Pause(ctx context.Context) (was bool, err error)
	Resume(ctx context.Context) (was bool, err error)
	// Reset, NMI and Shutdown return whether the guest is paused.
	Reset() (paused bool, err error)
	// NMI interrupts a VP, or all when it is negative.
	NMI(vp int) (paused bool, err error)
	// Shutdown presses the power button, which the guest may hear, or ends the VM.
	Shutdown(force bool) (heard, paused bool, err error)
	// Exits calls send with the exits of a VP, or of all when it is negative, until ctx
	// ends, which is no error, or send fails.
	Exits(ctx context.Context, vp int, send func(exits []*diagpb.GuestExit, lost uint64) error) error
	// Dump calls send with the pieces of a core file of the guest, which is paused
	// meanwhile, until it is whole or send fails.
	Dump(ctx context.Context, send func(*diagpb.FilePiece) error) error
	// Debug listens for a debugger, unless it is only asked whether it would, and returns
	// the vsock port.
	Debug(onlyAsk bool) (port uint32, err error)
}

// MaxExitTime is for how long exits are sent at most, unless it is without end.
const MaxExitTime = time.Hour

// control are the methods of keel.diag.v1.Control.
type control struct{ *Server }

func (s control) methods() map[string]method {
	all := map[string]method{
		"Pause": unary(s.Pause), "Resume": unary(s.Resume), "Reset": unary(s.Reset), "NMI": unary(s.NMI), "Shutdown": unary(s.Shutdown),
		"ExitTrace": stream(s.ExitTrace), "GuestDump": stream(s.GuestDump), "Debug": unary(s.Debug),
	}
	if s.config.Control == nil {
		for name, m := range all {
			all[name] = m.absent()
		}
	}
	return all
}

// Pause stops the guest.
func (s control) Pause(ctx context.Context, _ *diagpb.PauseRequest) (*diagpb.PauseResponse, error) {
	was, err := s.config.Control.Pause(ctx)
	return &diagpb.PauseResponse{WasPaused: was}, s.failed("pause the guest", err)
}

// Resume lets the guest go on.
func (s control) Resume(ctx context.Context, _ *diagpb.ResumeRequest) (*diagpb.ResumeResponse, error) {
	was, err := s.config.Control.Resume(ctx)
	return &diagpb.ResumeResponse{WasPaused: was}, s.failed("resume the guest", err)
}

// Reset starts the guest over.
func (s control) Reset(context.Context, *diagpb.ResetRequest) (*diagpb.ResetResponse, error) {
	paused, err := s.config.Control.Reset()
	return &diagpb.ResetResponse{Paused: paused}, s.failed("reset the guest", err)
}

// NMI interrupts VPs.
func (s control) NMI(_ context.Context, r *diagpb.NMIRequest) (*diagpb.NMIResponse, error) {
	vp, err := s.vp(r.Vp)
	if err != nil {
		return nil, err
	}
	paused, err := s.config.Control.NMI(vp)
	return &diagpb.NMIResponse{Paused: paused}, s.failed("interrupt the guest", err)
}

// Shutdown presses the power button, or ends the VM.
func (s control) Shutdown(_ context.Context, r *diagpb.ShutdownRequest) (*diagpb.ShutdownResponse, error) {
	heard, paused, err := s.config.Control.Shutdown(r.GetForce())
	return &diagpb.ShutdownResponse{Heard: heard, Paused: paused}, s.failed("shut the guest down", err)
}

// ExitTrace sends exits.
func (s control) ExitTrace(ctx context.Context, r *diagpb.ExitTraceRequest, send func(*diagpb.ExitTraceResponse) error) error {
	vp, err := s.vp(r.Vp)
	if err != nil {
		return err
	}
	duration := time.Duration(r.GetDurationMs()) * time.Millisecond
	if duration > MaxExitTime {
		return status.Errorf(codes.InvalidArgument, "a time of %v: at most %v, or 0 for no end", duration, MaxExitTime)
	}
	if duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, duration)
		defer cancel()
	}
	return s.failed("trace exits", s.config.Control.Exits(ctx, vp, func(exits []*diagpb.GuestExit, lost uint64) error {
		return send(&diagpb.ExitTraceResponse{Exits: exits, Lost: lost})
	}))
}

// GuestDump sends a core file of the guest.
func (s control) GuestDump(ctx context.Context, _ *diagpb.GuestDumpRequest, send func(*diagpb.FilePiece) error) error {
	return s.failed("dump the guest", s.config.Control.Dump(ctx, send))
}

// Debug listens for a debugger.
func (s control) Debug(_ context.Context, r *diagpb.DebugRequest) (*diagpb.DebugResponse, error) {
	port, err := s.config.Control.Debug(r.GetOnlyAsk())
	return &diagpb.DebugResponse{Port: port}, s.failed("let a debugger in", err)
}

// vp is the VP that a client names, or -1 for all.
func (s control) vp(named *uint32) (int, error) {
	switch n := s.config.Control.VPs(); {
	case named == nil:
		return -1, nil
	case *named >= uint32(n):
		return 0, status.Errorf(codes.InvalidArgument, "there is no VP %d: the guest has %d, from 0 on", *named, n)
	}
	return int(*named), nil
}

// failed is an error as the client gets it.
func (s control) failed(what string, err error) error {
	switch _, isStatus := status.FromError(err); {
	case isStatus: // also without an error
		return err
	case errors.Is(err, ErrState):
		return status.Errorf(codes.FailedPrecondition, "cannot %s: %v", what, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.Errorf(codes.DeadlineExceeded, "cannot %s: it does not stop in time", what)
	}
	if s.mayWarn() {
		s.config.Log.Warn("a diagnostics client's command failed", inspect.PublicAttr("command", what), "error", err)
	}
	return status.Errorf(codes.Internal, "cannot %s: %v", what, err)
}
