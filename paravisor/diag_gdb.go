package paravisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"keel/boot/handoff"
	"keel/diag/inspect"
	"keel/diag/server"
	"keel/paravisor/gdb"
)

// Times of debuggers.
const (
	debuggerPatience = 30 * time.Second // for one to come
	debuggerStall    = 10 * time.Second // for it to take a packet
)

// Debug listens for a debugger of the guest.
func (c *guestControl) Debug(onlyAsk bool) (port uint32, err error) {
	if c.keel.env.ListenDebug == nil {
		return 0, fmt.Errorf("%w: this VM has no way for debuggers", server.ErrState)
	}
	if err := c.take(userGDB); err != nil {
		return 0, err
	}
	if onlyAsk {
		c.give()
		return handoff.VsockDebug, nil
	}
	l, err := c.keel.env.ListenDebug()
	if err != nil {
		c.give()
		return 0, err
	}
	go func() {
		defer c.give()
		if err := c.debug(l); err != nil {
			c.keel.env.Log.Warn("a debugger of the guest", inspect.PublicAttr("error", err))
		}
	}()
	return handoff.VsockDebug, nil
}

// debug serves the first debugger that comes, and lets the guest go on when it has gone.
func (c *guestControl) debug(l net.Listener) error {
	late := time.AfterFunc(debuggerPatience, func() { _ = l.Close() }) // which ends Accept
	conn, err := l.Accept()
	late.Stop()
	_ = l.Close() // one is enough
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(c.life, func() { _ = conn.Close() })()
	ctx, cancel := context.WithTimeout(c.life, standing)
	defer cancel()
	d, err := c.guest().Debug(ctx)
	if err != nil {
		return err
	}
	err = gdb.Serve(c.life, slowly{conn}, d)
	_ = conn.Close() // whatever it has to say from now on
	detach, cancel := context.WithTimeout(c.life, standing)
	defer cancel()
	return errors.Join(err, d.Detach(detach))
}

// slowly is a connection whose other end must take what is written in some time.
type slowly struct{ net.Conn }

// Write writes, or fails when it takes too long.
func (c slowly) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(debuggerStall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
