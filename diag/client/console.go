package client

import (
	"context"

	"github.com/containerd/ttrpc"

	"keel/diag/diagpb"
)

// Console is a serial port of the guest that is followed.
type Console struct {
	c      *Client
	id     uint64
	offset uint64 // of what is typed next
}

// Console follows what the guest says on COM1 or COM2, 1 or 2, from a little before now
// on, until ctx ends or a callback fails. It calls attached once it is there, and output
// with what the guest says; lost is how many bytes before it the VM had no room for, since
// they were said too long before, or we were slow. The bytes may do anything to a
// terminal: the guest says them to one. Errors: ErrRequest, ErrRefused, ErrBusy,
// ErrUnknown, ErrAnswer, ErrLost, those of ctx and of output.
func (c *Client) Console(ctx context.Context, port int, attached func(*Console), output func(data []byte, lost uint64) error) error {
	begun := false
	return follow(ctx, c, "Programs/Console", &diagpb.ConsoleRequest{Port: uint32(max(port, 0))}, func(a *diagpb.ConsoleResponse) error {
		if !begun {
			begun = true
			attached(&Console{c: c, id: a.GetSession()})
		}
		if len(a.GetData()) == 0 && a.GetLost() == 0 {
			return nil
		}
		return output(a.GetData(), a.GetLost())
	})
}

// Write types, and waits until the guest had room for all of it. It is called from one
// goroutine at a time. Errors: ErrPath when the console is not followed any more,
// ErrRefused, ErrLost, that of ctx.
func (s *Console) Write(ctx context.Context, data []byte) error {
	return typeAll(ctx, &s.offset, data, false, func(part []byte) (taken uint64, err error) {
		request := &diagpb.ConsoleInputRequest{Session: s.id, Offset: s.offset, Data: part}
		// What was taken is not taken again, so that the call may be made twice.
		err = s.c.do(ctx, func(ctx context.Context, conn *ttrpc.Client) error {
			answer, err := diagpb.NewProgramsClient(conn).ConsoleInput(ctx, request)
			taken = answer.GetTaken()
			return err
		})
		return taken, err
	})
}
