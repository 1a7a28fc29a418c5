// Package gdb is a stub of GDB's remote serial protocol: it lets a debugger look into a
// guest, stop it and change it. A thread of the debugger is a VP.
//
// A client is somebody on the host, who may send anything: packets are bounded, and what
// makes no sense ends the connection.
//
// Specification: GDB manual, appendix E "GDB Remote Serial Protocol" and appendix G
// "Target Descriptions".
package gdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"keel/hcl"
	"keel/vtl"
)

// Target is a guest that is debugged, as vtl.Debugger offers it. It stands whenever a
// method is called that reads or changes something.
type Target interface {
	VPs() int
	Registers(ctx context.Context, vp int) (hcl.Registers, hcl.SpecialRegisters, error)
	SetRegisters(ctx context.Context, vp int, r *hcl.Registers, s *hcl.SpecialRegisters) error
	// Doing says in a word what a VP does.
	Doing(ctx context.Context, vp int) (string, error)
	// Read copies memory from a linear address on, as far as there is some.
	Read(ctx context.Context, vp int, linear uint64, p []byte) (int, error)
	Write(ctx context.Context, vp int, linear uint64, p []byte) error
	SetBreak(ctx context.Context, vp int, linear uint64) error
	ClearBreak(linear uint64) error
	// Go lets VPs go on; Halt stops all and waits for them.
	Go(ctx context.Context, action func(vp int) vtl.Action) error
	Halt(ctx context.Context) error
	// Stops tells which VP has stopped the guest.
	Stops() <-chan int
}

// patience is how long the guest may take to stop.
const patience = 10 * time.Second

// Signals of stop replies (GDB manual, "Stop Reply Packets").
const (
	signalInterrupt = 2 // the client has asked for it
	signalTrap      = 5
)

// stub serves one client.
type stub struct {
	target Target
	out    io.Writer

	acks    bool   // packets are acknowledged
	last    []byte // the last reply
	current int    // the VP that the client looks at
	running bool
	signal  int                  // why the guest stopped last
	breaks  map[uint64]breakKind // by linear address
	over    bool                 // the client has detached
}

// Serve serves a client until it detaches, the connection or ctx ends. The guest stands at
// first; afterwards it may run or stand, with breakpoints in it. A client that went without
// a word is no error. The caller ends the connection then, if only for its reader.
func Serve(ctx context.Context, client io.ReadWriter, target Target) error {
	s := &stub{target: target, out: client, acks: true, signal: signalTrap, breaks: map[uint64]breakKind{}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	incoming, ended := make(chan received), make(chan error, 1)
	go func() {
		r := bufio.NewReaderSize(client, PacketSize)
		for {
			x, err := next(r)
			if err != nil {
				ended <- err
				return
			}
			select {
			case incoming <- x:
			case <-ctx.Done():
				return
			}
		}
	}()
	for !s.over {
		var err error
		select {
		case x := <-incoming:
			err = s.handle(ctx, x)
		case vp := <-s.stops():
			err = s.stop(ctx, vp, signalTrap)
		case err = <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
		case <-ctx.Done():
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stops is where the target says that it has stopped, nil while it stands anyway.
func (s *stub) stops() <-chan int {
	if !s.running {
		return nil
	}
	return s.target.Stops()
}

// handle answers what has come.
func (s *stub) handle(ctx context.Context, x received) error {
	switch x.kind {
	case kindInterrupt:
		if !s.running {
			return nil
		}
		return s.stop(ctx, s.current, signalInterrupt)
	case kindNack:
		return s.write(s.last)
	case kindDamaged:
		if !s.acks {
			return fmt.Errorf("%w: a wrong checksum", errPacket)
		}
		return s.write([]byte{nack})
	case kindPacket:
	}
	if s.acks {
		if err := s.write([]byte{ack}); err != nil {
			return err
		}
	}
	if s.running {
		// Nothing but an interrupt may come now. Whoever sends it gets no second reply.
		if err := s.halt(ctx); err != nil {
			return err
		}
	}
	reply, err := s.command(ctx, x.data)
	if err != nil || s.running {
		return err // the reply comes when the guest stops
	}
	return s.reply(reply)
}

// halt waits until the guest stands.
func (s *stub) halt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s.running = false
	return s.target.Halt(ctx)
}

// stop tells the client that the guest has stopped, and where.
func (s *stub) stop(ctx context.Context, vp, signal int) error {
	if err := s.halt(ctx); err != nil {
		return err
	}
	s.current, s.signal = vp, signal
	return s.reply(s.stopped())
}

// stopped is the reply that says why the guest stands.
func (s *stub) stopped() string { return fmt.Sprintf("T%02xthread:%x;", s.signal, thread(s.current)) }

// thread is the number of a VP's thread: 0 would mean any.
func thread(vp int) int { return vp + 1 }

// reply sends a packet.
func (s *stub) reply(data string) error {
	s.last = frame(data)
	return s.write(s.last)
}

func (s *stub) write(b []byte) error {
	_, err := s.out.Write(b)
	return err
}
