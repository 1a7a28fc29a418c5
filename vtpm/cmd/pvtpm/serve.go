package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

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
func (s socket) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(s), b)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

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
	commands socket
	tpm      *engine.Engine
	out      []byte // the frame that is sent
}

// serve answers frames until the paravisor closes the socket.
func (s *server) serve() error {
	f, err := wire.NewReader(s.commands).Read()
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
	for {
		c, err := s.tpm.Serve(int(s.commands))
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, engine.ErrExecute):
			return errors.Join(err, s.send(&wire.Frame{Kind: wire.Done, Status: wire.Failed, Seq: c.Seq}))
		case errors.Is(err, engine.ErrFrame):
			return fmt.Errorf("%w: %w", errProtocol, err)
		case err != nil:
			return err
		}
		if err := s.done(wire.Frame{Kind: wire.Done, Seq: c.Seq, Body: c.Response}); err != nil {
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
	return s.done(wire.Frame{Kind: wire.Done, Seq: f.Seq})
}

// done sends a Done with the volatile state, and with the permanent state if it changed.
func (s *server) done(f wire.Frame) error {
	f.Permanent = s.tpm.Permanent()
	var err error
	if f.Volatile, err = s.tpm.Volatile(); err != nil {
		return err
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

// readCancels ends with the process.
func readCancels(s socket) {
	in := wire.NewReader(s)
	for {
		f, err := in.Read()
		if err != nil || f.Kind != wire.Cancel {
			return
		}
		for engine.Cancel(f.Seq) {
			time.Sleep(cancelInterval)
		}
	}
}
