package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// session is a program that runs.
type session struct {
	cmd      *exec.Cmd
	outputs  map[Stream]*os.File
	terminal bool
	done     chan struct{} // closed when the program has ended and is a zombie

	mu    sync.Mutex
	input *os.File // nil once it has ended
	taken uint64   // bytes of it
	ended bool     // the program has, and its number may become that of another one
}

// signal reaches the process group; false says that the program has ended.
func (s *session) signal(signal unix.Signal) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	_ = unix.Kill(-s.cmd.Process.Pid, signal) // it is there until it has been waited for
	return true
}

// copyOutput hands output over until the program has ended and there is no more, or
// nobody takes it.
func (s *session) copyOutput(cancel context.CancelCauseFunc, output func(Stream, []byte) error) {
	go s.end()
	defer func() { <-s.done }()
	var wg sync.WaitGroup
	var one sync.Mutex
	for stream, f := range s.outputs {
		wg.Go(func() {
			buf := make([]byte, MaxChunk)
			for left := maxLeftover; left > 0; {
				n, err := f.Read(buf)
				if errors.Is(err, os.ErrDeadlineExceeded) { // the program has ended
					n, err = leftover(f, buf)
					left -= n
				}
				if n > 0 {
					one.Lock()
					failed := output(stream, buf[:n])
					one.Unlock()
					if failed != nil {
						cancel(failed)
						return
					}
				}
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
}

// end waits for the end of the program, kills what it left in its process group, and has
// its last words read.
func (s *session) end() {
	defer close(s.done)
	// It stays a zombie, and its number its own, until wait.
	for {
		if err := unix.Waitid(unix.P_PID, s.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			break
		}
	}
	s.mu.Lock()
	_ = unix.Kill(-s.cmd.Process.Pid, unix.SIGKILL) // it may be alone
	s.ended = true
	s.mu.Unlock()
	for _, f := range s.outputs {
		_ = f.SetReadDeadline(past) // one that knows none has ended
	}
}

// wait returns how the program ended.
func (s *session) wait() (Exit, error) {
	err := s.cmd.Wait()
	state := s.cmd.ProcessState
	if state == nil {
		return Exit{}, fmt.Errorf("%w: %w", ErrStart, err)
	}
	if w, ok := state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return Exit{Signal: unix.SignalName(w.Signal())}, nil
	}
	return Exit{Code: state.ExitCode()}, nil
}

// close lets go of the session's files.
func (s *session) close() {
	for _, f := range s.outputs {
		f.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.input != nil {
		s.input.Close()
	}
}

// write gives bytes to the program: see Table.Input.
func (s *session) write(offset uint64, data []byte, end bool) (taken uint64, ended bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if offset > s.taken {
		return 0, false, fmt.Errorf("%w: bytes %d to %d are missing", ErrInput, s.taken, offset)
	}
	data = data[min(s.taken-offset, uint64(len(data))):]
	switch {
	case s.input == nil && len(data) == 0 && end:
		return s.taken, true, nil // once more
	case s.input == nil || s.ended:
		return 0, false, fmt.Errorf("%w: it has ended", ErrInput)
	}
	n, err := writeSome(s.input, data)
	s.taken += uint64(n)
	if err == nil && end && n == len(data) {
		ended, err = s.endInput()
	}
	if err != nil {
		return 0, false, fmt.Errorf("%w: %w", ErrInput, err)
	}
	return s.taken, ended, nil
}

// endInput lets the program know that no more input comes.
func (s *session) endInput() (bool, error) {
	if s.terminal {
		n, err := writeSome(s.input, []byte{endOfText})
		return n == 1, err
	}
	err := s.input.Close()
	s.input = nil
	return true, err
}

// resize changes the size of the program's terminal.
func (s *session) resize(size Size) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.input == nil || s.ended {
		return ErrInput
	}
	return resize(s.input, size)
}

// writeSome writes what there is room for.
func writeSome(f *os.File, data []byte) (n int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	for n < len(data) {
		var took int
		var failed error
		if err := conn.Write(func(fd uintptr) bool {
			took, failed = unix.Write(int(fd), data[n:])
			return true
		}); err != nil {
			return n, err
		}
		switch failed {
		case nil:
			n += took
		case unix.EINTR:
		case unix.EAGAIN:
			return n, nil
		default:
			return n, failed
		}
	}
	return n, nil
}

// past is a deadline that ends a read at once.
var past = time.Unix(1, 0)

// leftover reads what is there without waiting for more.
func leftover(f *os.File, buf []byte) (n int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { n, failed = unix.Read(int(fd), buf) }); err != nil {
		return 0, err
	}
	switch {
	case failed == unix.EINTR:
		return 0, nil
	case failed != nil:
		return 0, failed
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}
