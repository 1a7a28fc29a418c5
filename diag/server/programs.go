package server

import (
	"context"
	"errors"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keel/diag/console"
	"keel/diag/coredump"
	"keel/diag/diagpb"
	"keel/diag/profile"
	"keel/diag/session"
)

// Programs is what the service Programs reaches of the paravisor.
type Programs struct {
	// Restart has, for each worker that there is, what replaces its process by a new one.
	// It gives up when its context ends.
	Restart map[string]func(ctx context.Context) error
	// Consoles are the guest's serial ports, COM1 first.
	Consoles [2]Console
}

// Console is a serial port of the guest.
type Console struct {
	Output *console.Port // nil: nothing may come out
	// Type types as much as there is room for, and returns how much that was. It never
	// waits. Nil: nobody may type.
	Type func(b []byte) int
}

// maxInput is how many bytes of input a request may have.
const maxInput = 4 << 10

// programs are the methods of keel.diag.v1.Programs.
type programs struct {
	*Server
	sessions *session.Table
	typists  *typists
}

func newPrograms(s *Server) programs {
	return programs{s, &session.Table{}, &typists{open: map[uint64]*typist{}}}
}

func (s programs) methods() map[string]method {
	return map[string]method{
		"Exec": stream(s.Exec), "Input": unary(s.Input), "Resize": unary(s.Resize), "Signal": unary(s.Signal),
		"ReadFile": stream(s.ReadFile), "Profile": stream(s.Profile), "Trace": stream(s.Trace), "CoreDump": stream(s.CoreDump),
		"Restart": unary(s.Restart), "Console": stream(s.Console), "ConsoleInput": unary(s.ConsoleInput),
	}
}

// programCodes says what becomes of errors.
var programCodes = []struct {
	err  error
	code codes.Code
}{
	{session.ErrProgram, codes.InvalidArgument},
	{session.ErrSize, codes.InvalidArgument},
	{session.ErrSignal, codes.InvalidArgument},
	{session.ErrMissing, codes.NotFound},
	{session.ErrSession, codes.NotFound},
	{session.ErrMany, codes.ResourceExhausted},
	{session.ErrStart, codes.FailedPrecondition},
	{session.ErrInput, codes.FailedPrecondition},
	{profile.ErrKind, codes.InvalidArgument},
	{profile.ErrTime, codes.InvalidArgument},
	{profile.ErrBusy, codes.ResourceExhausted},
	{profile.ErrSize, codes.FailedPrecondition},
	{coredump.ErrBusy, codes.ResourceExhausted},
	{coredump.ErrDump, codes.FailedPrecondition},
	{console.ErrMany, codes.ResourceExhausted},
}

// explain gives an error its code. Errors of the connection have none, and need none.
func explain(err error) error {
	for _, c := range programCodes {
		if errors.Is(err, c.err) {
			return status.Error(c.code, err.Error())
		}
	}
	return err
}

// size is the size of a terminal.
func size(t *diagpb.TerminalSize) session.Size {
	return session.Size{Rows: t.GetRows(), Columns: t.GetColumns()}
}

// Exec runs a program for as long as its client stays.
func (s programs) Exec(ctx context.Context, r *diagpb.ExecRequest, send func(*diagpb.ExecResponse) error) error {
	p := session.Program{Args: r.GetArgs(), Env: r.GetEnv()}
	if r.GetTerminal() != nil {
		p.Terminal = new(size(r.GetTerminal()))
	}
	exit, err := s.sessions.Run(ctx, p, func(id uint64) error {
		return send(&diagpb.ExecResponse{What: &diagpb.ExecResponse_Session{Session: id}})
	}, func(from session.Stream, b []byte) error {
		if from == session.Stderr {
			return send(&diagpb.ExecResponse{What: &diagpb.ExecResponse_Stderr{Stderr: b}})
		}
		return send(&diagpb.ExecResponse{What: &diagpb.ExecResponse_Stdout{Stdout: b}})
	})
	if err != nil {
		return explain(err)
	}
	end := &diagpb.ExecEnd{Code: int32(exit.Code), Signal: exit.Signal}
	return send(&diagpb.ExecResponse{What: &diagpb.ExecResponse_End{End: end}})
}

// tooMuch refuses input that is too long for one request.
func tooMuch(b []byte) error {
	if len(b) > maxInput {
		return status.Errorf(codes.InvalidArgument, "%d bytes of input: at most %d are taken", len(b), maxInput)
	}
	return nil
}

// Input gives bytes to a program.
func (s programs) Input(_ context.Context, r *diagpb.InputRequest) (*diagpb.InputResponse, error) {
	if err := tooMuch(r.GetData()); err != nil {
		return nil, err
	}
	taken, ended, err := s.sessions.Input(r.GetSession(), r.GetOffset(), r.GetData(), r.GetEnd())
	if err != nil {
		return nil, explain(err)
	}
	return &diagpb.InputResponse{Taken: taken, Ended: ended}, nil
}

// Resize changes the size of a program's terminal.
func (s programs) Resize(_ context.Context, r *diagpb.ResizeRequest) (*diagpb.ResizeResponse, error) {
	return &diagpb.ResizeResponse{}, explain(s.sessions.Resize(r.GetSession(), size(r.GetTerminal())))
}

// Signal sends a signal to a program's process group.
func (s programs) Signal(_ context.Context, r *diagpb.SignalRequest) (*diagpb.SignalResponse, error) {
	return &diagpb.SignalResponse{}, explain(s.sessions.Signal(r.GetSession(), int(r.GetSignal())))
}

// Restart replaces a worker's process.
func (s programs) Restart(ctx context.Context, r *diagpb.RestartRequest) (*diagpb.RestartResponse, error) {
	restart := s.config.Programs.Restart[r.GetWorker()]
	if restart == nil {
		return nil, status.Errorf(codes.NotFound, "there is no worker %q", r.GetWorker())
	}
	switch err := restart(ctx); {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, status.Errorf(codes.ResourceExhausted, "the worker %q did not come to an end of its work: try again", r.GetWorker())
	case err != nil:
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	s.config.Log.Info("a worker was restarted", "worker", r.GetWorker())
	return &diagpb.RestartResponse{}, nil
}

// typists are those who may type at the guest's consoles: who follows one.
type typists struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]*typist
}

// typist is one of them.
type typist struct {
	console *Console

	mu    sync.Mutex
	taken uint64 // bytes
}

// add adds one and returns its number.
func (t *typists) add(c *Console) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	t.open[t.last] = &typist{console: c}
	return t.last
}

func (t *typists) remove(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, id)
}

func (t *typists) find(id uint64) *typist {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[id]
}

// Console follows a serial port.
func (s programs) Console(ctx context.Context, r *diagpb.ConsoleRequest, send func(*diagpb.ConsoleResponse) error) error {
	n, all := r.GetPort(), &s.config.Programs.Consoles
	if n < 1 || n > uint32(len(all)) {
		return status.Errorf(codes.InvalidArgument, "there is no port %d: there are 1 to %d", n, len(all))
	}
	c := &all[n-1]
	if c.Output == nil {
		return status.Error(codes.FailedPrecondition, "the VM's configuration lets nothing out of its console")
	}
	reader, err := c.Output.Attach()
	if err != nil {
		return explain(err)
	}
	defer reader.Close()
	id := s.typists.add(c)
	defer s.typists.remove(id)
	if err := send(&diagpb.ConsoleResponse{Session: id}); err != nil {
		return err
	}
	buf := make([]byte, console.MaxChunk)
	for {
		n, lost, err := reader.Read(ctx, buf)
		if err == nil {
			err = send(&diagpb.ConsoleResponse{Data: buf[:n], Lost: lost})
		}
		if err != nil {
			return err
		}
	}
}

// ConsoleInput types on a serial port.
func (s programs) ConsoleInput(_ context.Context, r *diagpb.ConsoleInputRequest) (*diagpb.ConsoleInputResponse, error) {
	t, data := s.typists.find(r.GetSession()), r.GetData()
	if t == nil {
		return nil, status.Errorf(codes.NotFound, "no such session: %d", r.GetSession())
	}
	if err := tooMuch(data); err != nil {
		return nil, err
	}
	if t.console.Type == nil {
		return nil, status.Error(codes.FailedPrecondition, "the VM's configuration lets nobody type at its console")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.GetOffset() > t.taken {
		return nil, status.Errorf(codes.InvalidArgument, "bytes %d to %d are missing", t.taken, r.GetOffset())
	}
	// What was taken before is not taken again.
	t.taken += uint64(t.console.Type(data[min(t.taken-r.GetOffset(), uint64(len(data))):]))
	return &diagpb.ConsoleInputResponse{Taken: t.taken}, nil
}

// Processes whose memory may be asked for.
const (
	processParavisor = "paravisor"
	processTPM       = "tpm"
)

// CoreDump dumps the paravisor.
func (s programs) CoreDump(_ context.Context, r *diagpb.CoreDumpRequest, send func(*diagpb.FilePiece) error) error {
	switch process := r.GetProcess(); process {
	case processParavisor:
		to := &core{send: send}
		if err := coredump.Write(to); err != nil {
			return explain(err)
		}
		return to.flush()
	case processTPM:
		s.counts.denied.Add(1)
		return status.Error(codes.PermissionDenied, "rule tpm-secrets refuses Programs/CoreDump: the TPM's process holds the guest's keys, and forbids dumps of itself")
	default:
		return status.Errorf(codes.NotFound, "there is no process %q; there are %q", process, []string{processParavisor, processTPM})
	}
}

// core sends a core.
type core struct {
	send  func(*diagpb.FilePiece) error
	zeros uint64 // that were not sent yet
}

// Write sends bytes.
func (c *core) Write(b []byte) error {
	if err := c.flush(); err != nil {
		return err
	}
	return sendAll(c.send, b)
}

// Zeros adds up how many zeros there are.
func (c *core) Zeros(n uint64) error {
	c.zeros += n
	return nil
}

// flush sends how many zeros there were.
func (c *core) flush() error {
	if c.zeros == 0 {
		return nil
	}
	n := c.zeros
	c.zeros = 0
	return c.send(&diagpb.FilePiece{Zeros: n})
}

// pieceBytes is how many bytes of a file are sent at once.
const pieceBytes = 64 << 10

// sendAll sends bytes in pieces.
func sendAll(send func(*diagpb.FilePiece) error, b []byte) error {
	for part := range slices.Chunk(b, pieceBytes) {
		if err := send(&diagpb.FilePiece{Data: part}); err != nil {
			return err
		}
	}
	return nil
}
