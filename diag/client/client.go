// Package client asks a running paravisor for its diagnostics, from the host: keel.diag.v1
// with ttrpc, over the hybrid vsock of the VM's launcher.
//
// What comes out of a VM is not to be believed. Texts are made printable and bounded; what
// they say stays the VM's word.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/log"
	"github.com/containerd/ttrpc"

	"keel/boot/handoff"
	"keel/diag/diagpb"
	"keel/diag/inspect"
	"keel/diag/vsock"
)

// patience bounds a call whose context has no deadline.
const patience = 30 * time.Second

// Client asks one VM. Its methods may be called from any goroutine. A connection that
// the VM has ended, because it was idle or because the paravisor started anew, is made
// again for the next call.
type Client struct {
	target string
	path   string // of the hybrid socket
	dial   func(ctx context.Context) (net.Conn, error)

	mu     sync.Mutex
	closed bool
	owner  *Owner        // nil: calls are not signed
	conn   *ttrpc.Client // nil: there is none now
}

// Dial connects to a VM: target is the name of one that runs on this host, or the path of
// a hybrid vsock socket: one with a slash, or an abstract name that begins with @.
// Errors: ErrNoVM, ErrNotReady, ErrLost.
func Dial(ctx context.Context, target string) (*Client, error) {
	path := target
	if !strings.HasPrefix(target, "@") && !strings.Contains(target, "/") {
		path = handoff.VsockSocket(os.Getuid(), target)
	}
	c, err := newClient(ctx, target, func(ctx context.Context) (net.Conn, error) {
		return vsock.Dial(ctx, path, handoff.VsockDiag)
	})
	if err != nil {
		return nil, err
	}
	c.path = path
	return c, nil
}

// quiet keeps ttrpc's own log away: what it says of answers that come too late is for
// nobody.
var quiet = sync.OnceFunc(func() { log.L.Logger.SetOutput(io.Discard) })

// newClient makes the first connection.
func newClient(ctx context.Context, target string, dial func(context.Context) (net.Conn, error)) (*Client, error) {
	quiet()
	c := &Client{target: target, dial: dial}
	if _, _, err := c.connect(ctx); err != nil {
		return nil, c.explain(err)
	}
	return c, nil
}

// connect returns the connection, and whether it is a new one.
func (c *Client) connect(ctx context.Context) (conn *ttrpc.Client, fresh bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, false, net.ErrClosed
	case c.conn != nil:
		return c.conn, false, nil
	}
	raw, err := c.dial(ctx)
	if err != nil {
		return nil, false, err
	}
	c.conn = ttrpc.NewClient(raw)
	return c.conn, true, nil
}

// lost forgets a connection that has ended.
func (c *Client) lost(conn *ttrpc.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == conn {
		c.conn = nil
	}
	_ = conn.Close() // it has ended
}

// do makes a unary call that only reads: on a new connection, if the one that there was
// has ended, for the call may be made twice.
func (c *Client) do(ctx context.Context, call func(context.Context, *ttrpc.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		conn, fresh, err := c.connect(ctx)
		if err != nil {
			return c.explain(err)
		}
		err = call(ctx, conn)
		gone := ended(err)
		if gone {
			c.lost(conn)
		}
		if !gone || fresh || ctx.Err() != nil {
			return c.explain(err)
		}
	}
}

// once makes a unary call that changes something. It is made once, on a connection of its
// own, so that one that has ended meanwhile is no reason to fail.
func (c *Client) once(ctx context.Context, call func(context.Context, *ttrpc.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	raw, err := c.extra(ctx)
	if err != nil {
		return c.explain(err)
	}
	conn := ttrpc.NewClient(raw, c.commanding()...)
	defer conn.Close()
	return c.explain(call(ctx, conn))
}

// ended tells whether an error is that of a connection that is gone.
func ended(err error) bool {
	return errors.Is(err, ttrpc.ErrClosed) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// Close ends the connection.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.conn == nil {
		return nil
	}
	return c.conn.Close()
}

// Tree is a part of the state tree.
type Tree struct {
	inspect.Field
	// Confidential says that the guest is, and that private fields were left out.
	Confidential bool
}

// Inspect reads the state tree from a path on, depth levels down. An empty path is the
// root. Errors: ErrRequest, ErrPath, ErrBusy, ErrUnknown, ErrAnswer, ErrLost.
func (c *Client) Inspect(ctx context.Context, path string, depth int) (*Tree, error) {
	request, err := inspectRequest(path, depth)
	if err != nil {
		return nil, err
	}
	var answer *diagpb.InspectResponse
	err = c.do(ctx, func(ctx context.Context, conn *ttrpc.Client) (err error) {
		answer, err = diagpb.NewDiagClient(conn).Inspect(ctx, request)
		return err
	})
	if err != nil {
		return nil, err
	}
	return tree(answer)
}

// Attest returns evidence of what runs in the VM for a nonce of 16 to 64 bytes, as
// claims.ParseEvidence reads it. Nothing in it is verified. Errors: ErrRefused, when the
// guest is not confidential, ErrRequest, ErrBusy, ErrUnknown, ErrAnswer, ErrLost.
func (c *Client) Attest(ctx context.Context, nonce []byte) ([]byte, error) {
	var answer *diagpb.AttestResponse
	err := c.do(ctx, func(ctx context.Context, conn *ttrpc.Client) (err error) {
		answer, err = diagpb.NewDiagClient(conn).Attest(ctx, &diagpb.AttestRequest{Nonce: nonce})
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(answer.GetEvidence()) == 0 {
		return nil, fmt.Errorf("%w: no evidence in it", ErrAnswer)
	}
	return answer.GetEvidence(), nil
}
