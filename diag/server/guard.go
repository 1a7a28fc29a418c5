package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"keel/diag/frame"
	"keel/diag/inspect"
)

// guard stands between a client and ttrpc's server, which trusts its clients: it lets
// only whole requests through, no more at a time than the client may have under way, and
// ends the connection of a client that is too slow. A client that follows a stream must
// send a request now and then as any other: one that is gone, or stands still, never does.
// To ttrpc every end looks like that of the client: it keeps connections that end in
// another way.
type guard struct {
	net.Conn
	server *Server

	once     sync.Once
	closed   chan struct{}
	underWay chan struct{} // has an element for each request that has not ended

	mu      sync.Mutex
	streams map[uint32]struct{} // that have not ended, at most as many

	// Of the reader.
	head     [frame.HeadBytes]byte
	rest     []byte // of head, to be passed on
	left     int    // bytes of data to be passed on
	requests int
	last     uint32 // stream

	answers answers // of the writer
}

// errRequests says that a connection has had its share.
var errRequests = errors.New("enough requests for one connection")

// Read passes requests on.
func (g *guard) Read(b []byte) (int, error) {
	n, err := g.read(b)
	if err != nil {
		g.drop(err)
		return 0, io.EOF
	}
	return n, nil
}

func (g *guard) read(b []byte) (n int, err error) {
	if len(g.rest) == 0 && g.left == 0 {
		if err := g.next(); err != nil {
			return 0, err
		}
	}
	if len(g.rest) > 0 {
		n = copy(b, g.rest)
		g.rest = g.rest[n:]
		return n, nil
	}
	n, err = g.Conn.Read(b[:min(len(b), g.left)])
	g.left -= n
	if n > 0 {
		return n, nil // an error comes again
	}
	return 0, unexpected(err)
}

// next waits for a request's first byte, for its turn, and for the rest of its head.
// From the first byte on there is a deadline for all of it, but for our own delay.
func (g *guard) next() error {
	t := &g.server.times
	if err := g.SetReadDeadline(time.Now().Add(t.idle)); err != nil {
		return err
	}
	if _, err := io.ReadFull(g.Conn, g.head[:1]); err != nil {
		return err
	}
	if g.requests++; g.requests > maxRequests {
		return errRequests
	}
	// While it waits nobody would see that the client has gone.
	patience := time.NewTimer(t.idle)
	defer patience.Stop()
	select {
	case g.underWay <- struct{}{}:
	case <-g.closed:
		return net.ErrClosed
	case <-patience.C:
		return fmt.Errorf("%w: requests that do not end", os.ErrDeadlineExceeded)
	}
	if err := g.SetReadDeadline(time.Now().Add(t.frame)); err != nil {
		return err
	}
	if _, err := io.ReadFull(g.Conn, g.head[1:]); err != nil {
		return unexpected(err)
	}
	h := frame.Parse(&g.head)
	if err := checkHead(h, g.last); err != nil {
		return err
	}
	g.rest, g.left, g.last = g.head[:], int(h.Length), h.Stream
	g.mu.Lock()
	g.streams[h.Stream] = struct{}{}
	g.mu.Unlock()
	return nil
}

// ended makes room for another request. ttrpc may end a stream twice.
func (g *guard) ended(stream uint32) {
	g.mu.Lock()
	_, ok := g.streams[stream]
	delete(g.streams, stream)
	g.mu.Unlock()
	if ok {
		<-g.underWay
	}
}

// unexpected is the error of an end within a request.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write passes answers on.
func (g *guard) Write(b []byte) (int, error) {
	err := g.SetWriteDeadline(time.Now().Add(g.server.times.stall))
	n := 0
	if err == nil {
		n, err = g.Conn.Write(b)
	}
	g.answers.ends(b[:n], g.ended)
	if err != nil {
		g.drop(err)
	}
	return n, err
}

// drop ends a connection and counts why.
func (g *guard) drop(err error) {
	c, s := &g.server.counts, g.server
	select {
	case <-g.closed:
		return // one cause is enough
	default:
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.slow.Add(1)
		if s.mayWarn() {
			s.config.Log.Warn("a diagnostics client was too slow", inspect.PublicAttr("error", err))
		}
	case errors.Is(err, errFrame), errors.Is(err, io.ErrUnexpectedEOF):
		c.frames.Add(1)
		if s.mayWarn() {
			s.config.Log.Warn("refused what a diagnostics client sent", inspect.PublicAttr("error", err))
		}
	}
	_ = g.Close() // the client is told by that
}

// Close ends the connection.
func (g *guard) Close() (err error) {
	g.once.Do(func() {
		close(g.closed)
		err = g.Conn.Close()
		g.server.forget(g)
	})
	return err
}

// gate is a listener that lets in as many clients as there is room for.
type gate struct {
	net.Listener
	server *Server
}

// Accept returns the next client for whom there is room; others are turned away.
func (l gate) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g := &guard{
			Conn: c, server: l.server, closed: make(chan struct{}),
			underWay: make(chan struct{}, maxUnderWay), streams: map[uint32]struct{}{},
		}
		if l.server.admit(g) {
			return g, nil
		}
		l.server.counts.turnedAway.Add(1)
		_ = c.Close() // the client is told by that
	}
}
