package main

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"keel/hcl/sys"
	"keel/vtpm/engine"
	"keel/vtpm/wire"
)

// errProtocol says that the paravisor sent what it may not send now.
var errProtocol = errors.New("the paravisor breaks the protocol")

// cancelInterval is how often a cancel is repeated until its command ends: the engine
// forgets those that come before it looks at the command.
const cancelInterval = time.Millisecond

// socket is a blocking descriptor. A read of it costs one system call, where a poller's
// would cost three.
type socket int

// Read reads what there is, waiting for the first byte.
func (s socket) Read(b []byte) (int, error) { return s.read(b, unix.Read) }

// read waits for the first byte by what reads.
func (s socket) read(b []byte, read func(fd int, b []byte) (int, error)) (int, error) {
	for {
		n, err := read(int(s), b)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN): // it has a timeout, which has passed
			if err := readable(int(s)); err != nil {
				return 0, err
			}
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// commandGap is how long the reader of commands stays ready for the next one.
const commandGap = 5 * time.Millisecond

// commandSocket is the socket of commands. Go's scheduler does not hear of a wait for a
// command that comes soon: it would take the processor away meanwhile, and wake its
// monitor thread for each command to give it back. Of a longer wait it hears.
type commandSocket struct{ socket }

// newCommandSocket sets the timeout of the socket's reads.
func newCommandSocket(fd int) (commandSocket, error) {
	gap := unix.NsecToTimeval(commandGap.Nanoseconds())
	return commandSocket{socket(fd)}, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &gap)
}

// Read reads what there is, waiting for the first byte.
func (s commandSocket) Read(b []byte) (int, error) { return s.read(b, sys.ReadNow) }

// Write writes all of b.
func (s socket) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Write(int(s), b[done:])
		if err != nil && err != unix.EINTR {
			return done, err
		}
		done += max(n, 0)
	}
	return done, nil
}

// server runs the commands of one TPM.
type server struct {
	commands commandSocket
	cancels  socket
	tpm      *engine.Engine
	out      []byte                   // the frame that is sent
	response [engine.MaxResponse]byte // of the engine

	mu        sync.Mutex
	running   uint64 // sequence number of the command that runs, 0 when none does
	cancelled uint64 // the highest that was cancelled
}

// serve answers frames until the paravisor closes the socket.
func (s *server) serve() error {
	in := wire.NewReader(s.commands)
	f, err := in.Read()
	if err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	if f.Kind != wire.Init {
		return fmt.Errorf("%w: it starts with kind %d", errProtocol, f.Kind)
	}
	if err := s.init(&f); err != nil {
		return err
	}
	defer s.tpm.Close()
	go s.readCancels()
	// The state that came with Init may be large, and is not needed again.
	in = in.Shrink()
	for {
		f, err := in.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errProtocol, err)
		}
		if f.Kind != wire.Execute {
			return fmt.Errorf("%w: kind %d where a command is due", errProtocol, f.Kind)
		}
		if err := s.execute(&f); err != nil {
			return err
		}
	}
}

// init gives the TPM power and says how that went.
func (s *server) init(f *wire.Frame) error {
	tpm, err := engine.New(f.Permanent, f.Volatile)
	if err != nil {
		status := wire.Failed
		if errors.Is(err, engine.ErrStart) {
			status = wire.BadState
		}
		return errors.Join(err, s.send(&wire.Frame{Kind: wire.Done, Status: status, Seq: f.Seq}))
	}
	s.tpm = tpm
	return s.done(wire.Frame{Kind: wire.Done, Seq: f.Seq}, true)
}

// execute runs a command and sends the response, with the states that it changed.
func (s *server) execute(f *wire.Frame) error {
	keeps, repeat := keepsState(f.Body), f.Repeat
	if !s.begin(f.Seq) {
		return s.send(&wire.Frame{Kind: wire.Done, Seq: f.Seq, Body: canceled})
	}
	n, err := s.tpm.Execute(f.Locality, f.Body, s.response[:])
	s.end()
	if err != nil {
		return errors.Join(err, s.send(&wire.Frame{Kind: wire.Done, Status: wire.Failed, Seq: f.Seq}))
	}
	keeps = keeps || repeat && succeeded(s.response[:n])
	return s.done(wire.Frame{Kind: wire.Done, Seq: f.Seq, Body: s.response[:n]}, !keeps)
}

// done sends a Done with the permanent state, if it changed, and the volatile state, if
// it may have.
func (s *server) done(f wire.Frame, volatile bool) error {
	f.Permanent = s.tpm.Permanent()
	if volatile || len(f.Permanent) > 0 {
		var err error
		if f.Volatile, err = s.tpm.Volatile(); err != nil {
			return err
		}
	}
	return s.send(&f)
}

func (s *server) send(f *wire.Frame) error {
	var err error
	if s.out, err = wire.Append(s.out[:0], f); err != nil {
		return err
	}
	_, err = s.commands.Write(s.out)
	return err
}

// begin notes that a command runs. It returns false where it was cancelled already.
func (s *server) begin(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancelled == seq {
		return false
	}
	s.running = seq
	return true
}

func (s *server) end() {
	s.mu.Lock()
	s.running = 0
	s.mu.Unlock()
}

// readCancels ends with the process.
func (s *server) readCancels() {
	in := wire.NewReader(s.cancels)
	for {
		f, err := in.Read()
		if err != nil || f.Kind != wire.Cancel {
			return
		}
		s.mu.Lock()
		s.cancelled = max(s.cancelled, f.Seq)
		s.mu.Unlock()
		for s.cancel(f.Seq) {
			time.Sleep(cancelInterval)
		}
	}
}

// cancel cancels the running command if it is the one meant.
func (s *server) cancel(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != seq {
		return false
	}
	s.tpm.Cancel()
	return true
}
