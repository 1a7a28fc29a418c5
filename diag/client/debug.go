package client

import (
	"context"
	"fmt"
	"net"

	"github.com/containerd/ttrpc"

	"keel/diag/diagpb"
	"keel/diag/vsock"
)

// Debug connects a debugger with the guest, one that speaks GDB's remote serial protocol.
// The guest is paused until the debugger lets it run, and runs when the connection has
// ended. Errors: those of the other methods that act on the guest.
func (c *Client) Debug(ctx context.Context) (net.Conn, error) {
	port, err := c.debugPort(ctx, false)
	if err != nil {
		return nil, err
	}
	conn, err := vsock.Dial(ctx, c.path, port)
	return conn, c.explain(err)
}

// CanDebug asks whether Debug would do what it does.
func (c *Client) CanDebug(ctx context.Context) error {
	_, err := c.debugPort(ctx, true)
	return err
}

func (c *Client) debugPort(ctx context.Context, onlyAsk bool) (port uint32, err error) {
	err = c.once(ctx, func(ctx context.Context, conn *ttrpc.Client) error {
		answer, err := diagpb.NewControlClient(conn).Debug(ctx, &diagpb.DebugRequest{OnlyAsk: onlyAsk})
		port = answer.GetPort()
		return err
	})
	if err == nil && port == 0 {
		err = fmt.Errorf("%w: no port", ErrAnswer)
	}
	return port, err
}
