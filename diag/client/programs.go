package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/ttrpc"

	"keel/diag/diagpb"
)

// Program is a program to run in a VM.
type Program struct {
	Args []string // the program first: a path, or a name that is looked for in PATH
	Env  []string // NAME=VALUE, over what every program finds
	// Terminal is the size of the terminal that the program gets; nil for pipes.
	Terminal *TerminalSize
}

// TerminalSize is the size of a terminal, in characters. Zero stands for unknown.
type TerminalSize struct{ Rows, Columns int }

func (s TerminalSize) message() *diagpb.TerminalSize {
	return &diagpb.TerminalSize{Rows: uint32(max(s.Rows, 0)), Columns: uint32(max(s.Columns, 0))}
}

// ProgramEnd is how a program ended.
type ProgramEnd struct {
	Code   int    // exit status
	Signal string // that killed it; empty for none
}

// Exec runs a program in a VM to its end. It calls started once the program runs, and
// writes what that says to two writers, one piece at a time. A program whose output is not
// taken waits; the VM kills it when nothing is taken for ten seconds, and when ctx ends or
// a writer fails. Errors: ErrRequest, ErrPath for a program that there is not, ErrRefused,
// ErrBusy, ErrUnknown, ErrAnswer, ErrLost, those of ctx and of the writers.
func (c *Client) Exec(ctx context.Context, p Program, started func(*Session), stdout, stderr io.Writer) (ProgramEnd, error) {
	request := &diagpb.ExecRequest{Args: p.Args, Env: p.Env}
	if p.Terminal != nil {
		request.Terminal = p.Terminal.message()
	}
	var end *ProgramEnd
	begun := false
	err := follow(ctx, c, "Programs/Exec", request, func(a *diagpb.ExecResponse) (err error) {
		switch what := a.GetWhat().(type) {
		case *diagpb.ExecResponse_Session:
			if !begun {
				begun = true
				started(&Session{c: c, id: what.Session})
			}
		case *diagpb.ExecResponse_Stdout:
			_, err = stdout.Write(what.Stdout)
		case *diagpb.ExecResponse_Stderr:
			_, err = stderr.Write(what.Stderr)
		case *diagpb.ExecResponse_End:
			end = &ProgramEnd{Code: int(what.End.GetCode()), Signal: oneLine(what.End.GetSignal())}
		}
		return err
	})
	switch {
	case err != nil:
		return ProgramEnd{}, err
	case end == nil:
		return ProgramEnd{}, fmt.Errorf("%w: the program has no end", ErrAnswer)
	}
	return *end, nil
}

// Session is a program that runs. Its methods fail with ErrPath once it has ended.
type Session struct {
	c      *Client
	id     uint64
	offset uint64 // of what comes next in all its input
}

// maxInput is how many bytes of input a request has.
const maxInput = 4 << 10

// inputPause is how long a program that has no room for input is left alone.
const inputPause = 20 * time.Millisecond

// Write gives bytes to the program, and waits until it had room for all of them. It is
// called from one goroutine at a time, as is End. Errors: ErrPath, ErrRefused when the
// program takes no input any more, ErrLost, that of ctx.
func (s *Session) Write(ctx context.Context, data []byte) error {
	_, err := s.input(ctx, data, false)
	return err
}

// End says that there is no more input. Errors: those of Write.
func (s *Session) End(ctx context.Context) error {
	for {
		if ended, err := s.input(ctx, nil, true); ended || err != nil {
			return err
		}
		if err := wait(ctx, inputPause); err != nil {
			return err
		}
	}
}

func (s *Session) input(ctx context.Context, data []byte, end bool) (ended bool, err error) {
	err = typeAll(ctx, &s.offset, data, end, func(part []byte) (taken uint64, err error) {
		request := &diagpb.InputRequest{Session: s.id, Offset: s.offset, Data: part, End: end}
		// What was taken is not taken again, so that the call may be made twice.
		err = s.c.do(ctx, func(ctx context.Context, conn *ttrpc.Client) error {
			answer, err := diagpb.NewProgramsClient(conn).Input(ctx, request)
			taken, ended = answer.GetTaken(), answer.GetEnded()
			return err
		})
		return taken, err
	})
	return ended, err
}

// typeAll gives bytes to somebody who takes as many as there is room for, and moves the
// offset of what comes next. once asks even if there are none.
func typeAll(ctx context.Context, offset *uint64, data []byte, once bool, give func([]byte) (taken uint64, err error)) error {
	for len(data) > 0 || once {
		once = false
		part := data[:min(len(data), maxInput)]
		taken, err := give(part)
		if err != nil {
			return err
		}
		n := taken - *offset
		if n > uint64(len(part)) { // or it went back
			return fmt.Errorf("%w: %d bytes of %d were taken", ErrAnswer, n, len(part))
		}
		*offset, data = taken, data[n:]
		if n < uint64(len(part)) {
			if err := wait(ctx, inputPause); err != nil {
				return err
			}
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Resize changes the size of the program's terminal. Errors: ErrPath, ErrRequest, ErrLost.
func (s *Session) Resize(ctx context.Context, size TerminalSize) error {
	return s.c.do(ctx, func(ctx context.Context, conn *ttrpc.Client) error {
		_, err := diagpb.NewProgramsClient(conn).Resize(ctx, &diagpb.ResizeRequest{Session: s.id, Terminal: size.message()})
		return err
	})
}

// Signal sends a signal to the program's process group. Errors: ErrPath, ErrRequest,
// ErrLost.
func (s *Session) Signal(ctx context.Context, signal int) error {
	return s.c.once(ctx, func(ctx context.Context, conn *ttrpc.Client) error {
		_, err := diagpb.NewProgramsClient(conn).Signal(ctx, &diagpb.SignalRequest{Session: s.id, Signal: int32(signal)})
		return err
	})
}

// Restart replaces the process of a worker, "tpm", by a new one, which goes on where the
// old one was. Errors: ErrPath for a worker that there is not, ErrBusy, ErrRefused,
// ErrUnknown, ErrLost.
func (c *Client) Restart(ctx context.Context, worker string) error {
	return c.once(ctx, func(ctx context.Context, conn *ttrpc.Client) error {
		_, err := diagpb.NewProgramsClient(conn).Restart(ctx, &diagpb.RestartRequest{Worker: worker})
		return err
	})
}

// ErrCut says that a file is shorter than it was asked for, and complete as far as it
// goes.
var ErrCut = errors.New("less came than was asked for")

// Most bytes that come of a file, of a profile or trace, and of a core.
const (
	maxFile    = 256 << 20
	maxProfile = 256 << 20
	maxCore    = 64 << 30 // most of it zeros
)

// ReadFile writes a regular file of the VM's. Errors: ErrRequest, ErrPath, ErrCut,
// ErrRefused, ErrBusy, ErrUnknown, ErrAnswer, ErrLost, those of ctx and of w.
func (c *Client) ReadFile(ctx context.Context, path string, w io.Writer) error {
	return c.file(ctx, "Programs/ReadFile", &diagpb.ReadFileRequest{Path: path}, maxFile, w)
}

// Profile writes a profile of the paravisor as "go tool pprof" reads it. Those of kind cpu,
// block and mutex are of a stretch of time; for the others d is 0. Errors: ErrRequest,
// ErrRefused, ErrBusy, ErrUnknown, ErrAnswer, ErrLost, those of ctx and of w.
func (c *Client) Profile(ctx context.Context, kind string, d time.Duration, w io.Writer) error {
	return c.file(ctx, "Programs/Profile", &diagpb.ProfileRequest{Kind: kind, Milliseconds: milliseconds(d)}, maxProfile, w)
}

// Trace writes an execution trace of the paravisor as "go tool trace" reads it. Errors:
// those of Profile, and ErrCut.
func (c *Client) Trace(ctx context.Context, d time.Duration, w io.Writer) error {
	return c.file(ctx, "Programs/Trace", &diagpb.TraceRequest{Milliseconds: milliseconds(d)}, maxProfile, w)
}

// milliseconds of a time, as far as a request can say them; what is too long is refused.
func milliseconds(d time.Duration) uint32 { return uint32(min(max(d.Milliseconds(), 0), 1<<31)) }

// CoreDump writes an ELF core of a process of Keel's in the VM, "paravisor". A file that
// w is gets holes where the memory is zero. Errors: ErrPath for a process that there is
// not, ErrRefused, ErrBusy, ErrUnknown, ErrAnswer, ErrLost, those of ctx and of w.
func (c *Client) CoreDump(ctx context.Context, process string, w io.Writer) error {
	return c.file(ctx, "Programs/CoreDump", &diagpb.CoreDumpRequest{Process: process}, maxCore, w)
}
