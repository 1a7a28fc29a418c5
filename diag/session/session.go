// Package session runs programs in the VM for whoever looks into it: with pipes or with a
// terminal of their own, bounded in number and in memory, and never for longer than
// somebody takes their output.
//
// A program that outruns its reader waits, as behind any pipe. Input is taken as far as the
// program has room for it, so that nobody waits for a program that reads nothing.
package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Bounds.
const (
	MaxSessions = 4        // programs that run at a time
	MaxWords    = 64       // arguments, and variables of the environment, of a program
	MaxText     = 6 << 10  // bytes of both
	MaxChunk    = 16 << 10 // bytes of output that are handed over at once
	maxSide     = 1 << 12  // rows and columns of a terminal
	maxSignal   = 31       // real-time signals mean nothing to programs that are not told
	maxLeftover = 1 << 20  // bytes that are read of a program that has ended: what a pipe may hold at most
)

// Errors of a Table.
var (
	ErrProgram = errors.New("impossible program")
	ErrMissing = errors.New("no such program")
	ErrStart   = errors.New("the program does not start")
	ErrMany    = errors.New("too many programs run")
	ErrSession = errors.New("no such session")
	ErrInput   = errors.New("the program takes no input")
	ErrSize    = errors.New("impossible size of a terminal")
	ErrSignal  = errors.New("impossible signal")
)

// environment is what every program finds. Debug images have their commands there.
var environment = []string{"PATH=/bbin:/bin:/usr/bin", "HOME=/", "TERM=vt100"}

// Program is what to run.
type Program struct {
	Args []string // the program first: a path, or a name to look for in PATH
	Env  []string // NAME=VALUE, over what every program finds
	// Terminal is the size of the terminal that the program gets; nil for pipes.
	Terminal *Size
}

// Size is that of a terminal, in characters. Zero stands for unknown.
type Size struct{ Rows, Columns uint32 }

// Exit is how a program ended.
type Exit struct {
	Code   int    // exit status
	Signal string // that killed it; empty for none
}

// Stream tells where output comes from.
type Stream int

// The streams. All of a terminal's output is Stdout.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// Table has the programs that run. The zero value is ready.
type Table struct {
	mu       sync.Mutex
	last     uint64
	running  int
	sessions map[uint64]*session
}

// Run runs a program to its end. It calls started with the number of the session, then
// output with what the program says, from several goroutines but one at a time; the bytes
// are valid during the call. A program whose output nobody takes waits. When ctx ends or
// a callback fails the program is killed with its process group, and Run returns that
// error. Errors of its own: ErrProgram, ErrMissing, ErrStart, ErrMany.
func (t *Table) Run(ctx context.Context, p Program, started func(id uint64) error, output func(Stream, []byte) error) (Exit, error) {
	if err := p.check(); err != nil {
		return Exit{}, err
	}
	if err := t.take(); err != nil {
		return Exit{}, err
	}
	s, err := start(&p)
	if err != nil {
		t.leave(0)
		return Exit{}, err
	}
	id := t.enter(s)
	defer t.leave(id)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { s.signal(unix.SIGKILL) })()
	if err := started(id); err != nil {
		cancel(err)
	}
	s.copyOutput(cancel, output)
	exit, err := s.wait()
	if cause := context.Cause(ctx); cause != nil {
		return Exit{}, cause
	}
	return exit, err
}

// check bounds what is asked for.
func (p *Program) check() error {
	bytes := 0
	for _, list := range [][]string{p.Args, p.Env} {
		if len(list) > MaxWords {
			return fmt.Errorf("%w: %d words, at most %d are taken", ErrProgram, len(list), MaxWords)
		}
		for _, word := range list {
			bytes += len(word)
			if strings.ContainsRune(word, 0) {
				return fmt.Errorf("%w: a zero byte in %q", ErrProgram, word)
			}
		}
	}
	switch {
	case len(p.Args) == 0 || p.Args[0] == "":
		return fmt.Errorf("%w: it has no name", ErrProgram)
	case bytes > MaxText:
		return fmt.Errorf("%w: %d bytes of arguments and environment, at most %d are taken", ErrProgram, bytes, MaxText)
	}
	for _, v := range p.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return fmt.Errorf("%w: the variable %q has no name or no value", ErrProgram, v)
		}
	}
	if p.Terminal != nil {
		return p.Terminal.check()
	}
	return nil
}

func (s Size) check() error {
	if s.Rows > maxSide || s.Columns > maxSide {
		return fmt.Errorf("%w: %d rows and %d columns, at most %d", ErrSize, s.Rows, s.Columns, maxSide)
	}
	return nil
}

// take makes room for a program, if there is some.
func (t *Table) take() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running >= MaxSessions {
		return fmt.Errorf("%w: %d", ErrMany, t.running)
	}
	t.running++
	return nil
}

// enter gives a session its number.
func (t *Table) enter(s *session) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sessions == nil {
		t.sessions = map[uint64]*session{}
	}
	t.last++
	t.sessions[t.last] = s
	return t.last
}

// leave forgets a program, and its session if it got that far.
func (t *Table) leave(id uint64) {
	t.mu.Lock()
	t.running--
	s := t.sessions[id]
	delete(t.sessions, id)
	t.mu.Unlock()
	if s != nil {
		s.close()
	}
}

func (t *Table) find(id uint64) (*session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.sessions[id]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("%w: %d", ErrSession, id)
}

// Running returns how many programs run.
func (t *Table) Running() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running
}

// Input gives bytes to a program, as far as it has room for them. offset is where they
// begin in all that it was given: what it has is not given again, so that a request may
// come twice. With end there is no more after them, which a terminal says with Ctrl-D.
// taken is all that the program was ever given, and ended says that the end was taken,
// too. Errors: ErrSession, ErrInput.
func (t *Table) Input(id, offset uint64, data []byte, end bool) (taken uint64, ended bool, err error) {
	s, err := t.find(id)
	if err != nil {
		return 0, false, err
	}
	return s.write(offset, data, end)
}

// Resize changes the size of a program's terminal. Errors: ErrSession, ErrSize, ErrInput.
func (t *Table) Resize(id uint64, size Size) error {
	s, err := t.find(id)
	if err != nil {
		return err
	}
	if err := size.check(); err != nil {
		return err
	}
	if !s.terminal {
		return fmt.Errorf("%w: it has no terminal", ErrSize)
	}
	return s.resize(size)
}

// Signal sends a signal to a program's process group. Errors: ErrSession, ErrSignal.
func (t *Table) Signal(id uint64, signal int) error {
	s, err := t.find(id)
	if err != nil {
		return err
	}
	if signal < 1 || signal > maxSignal {
		return fmt.Errorf("%w: %d, there are 1 to %d", ErrSignal, signal, maxSignal)
	}
	if !s.signal(unix.Signal(signal)) {
		return fmt.Errorf("%w: %d has ended", ErrSession, id)
	}
	return nil
}
