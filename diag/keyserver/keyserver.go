// Package keyserver releases the keys with which confidential VMs seal their state: to a VM
// whose evidence its policy accepts, over the protocol of paravisor/keyrelease. It remembers
// how far each state has come, and refuses an older one. It is meant for tests and small
// installations: one process, one folder of keys, no replicas.
package keyserver

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"keel/paravisor/keyrelease"
)

// Defaults of a Config.
const (
	DefaultConnections = 64
	DefaultRate        = 20 // connections a second
	grace              = 5 * time.Second
	quiet              = 10 * time.Second // between two lines about connections that were turned away
	acceptPause        = 100 * time.Millisecond
)

// Config is what a server needs.
type Config struct {
	Policy  *Policy
	Keys    string // folder of the keys, which nobody else may use
	Signer  ed25519.PrivateKey
	Log     *slog.Logger // gets one line for each exchange, without secrets
	Options              // all of it may be zero
}

// Options may be left as they are.
type Options struct {
	AllowEmulated bool // a policy may have allow_emulated, which proves nothing
	AllowDebug    bool // a policy may have allow_debug
	Connections   int  // at once; others are closed
	Rate          float64
	Patience      time.Duration    // for each message of a client; keyrelease.DefaultPatience if zero
	Now           func() time.Time // when certificates must be valid; time.Now if nil
}

// Server releases keys. Its methods may be called from any goroutine.
type Server struct {
	config Config
	keys   *store

	released, created, reported, refused, broken, failed, turnedAway atomic.Uint64
}

// New checks the configuration and takes the folder of keys until Close. Errors are
// ErrPolicy, ErrKeys and ErrSigningKey.
func New(c Config) (*Server, error) {
	if c.Policy == nil || c.Policy.VMs() == 0 {
		return nil, fmt.Errorf("%w: there is none; name its file with --policy", ErrPolicy)
	}
	if err := c.Policy.check(c.AllowEmulated, c.AllowDebug); err != nil {
		return nil, err
	}
	if len(c.Signer) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("%w: it has %d bytes; make one with 'keel keyserver keygen FILE'", ErrSigningKey, len(c.Signer))
	}
	if c.Connections <= 0 {
		c.Connections = DefaultConnections
	}
	if c.Rate <= 0 {
		c.Rate = DefaultRate
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	keys, err := openStore(c.Keys)
	if err != nil {
		return nil, err
	}
	return &Server{config: c, keys: keys}, nil
}

// Close gives the folder of keys up.
//
// Preconditions: Serve has returned.
func (s *Server) Close() error { return s.keys.close() }

// Public returns what VMs must know of the server.
func (s *Server) Public() ed25519.PublicKey {
	public, _ := s.config.Signer.Public().(ed25519.PublicKey)
	return public
}

// Serve answers whoever connects until ctx ends, which closes the listener; exchanges that
// are under way then have a few seconds to end. Its error is ErrListen, when the listener
// fails for good.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	under, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var exchanges sync.WaitGroup
	err := s.accept(ctx, under, l, &exchanges)
	timer := time.AfterFunc(grace, cancel)
	defer timer.Stop()
	exchanges.Wait()
	return err
}

// accept starts an exchange for each connection, within the bounds.
func (s *Server) accept(ctx, under context.Context, l net.Listener, exchanges *sync.WaitGroup) error {
	places := make(chan struct{}, s.config.Connections)
	often, said := newBucket(s.config.Rate), time.Time{}
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close() // too late
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("%w: %w; start the server again", ErrListen, err)
		case err != nil: // for want of descriptors, or the client has left: it passes
			s.turnedAway.Add(1)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		now := time.Now()
		if free := len(places) < cap(places); !free || !often.take(now) {
			_ = conn.Close()
			n := s.turnedAway.Add(1)
			if now.Sub(said) > quiet {
				said = now
				s.config.Log.Warn("connections turned away", "so_far", n, "places", cap(places), "rate", s.config.Rate)
			}
			continue
		}
		places <- struct{}{}
		exchanges.Go(func() {
			defer func() { <-places }()
			s.serve(under, conn)
		})
	}
}

// serve has one exchange, and closes the connection.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	c, err := keyrelease.Hear(conn, s.config.Signer, s.config.Patience)
	e := exchange{Server: s, log: s.config.Log.With("vm", c.VM, "remote", remote(conn)), Conversation: c}
	if err != nil {
		e.end(err)
		return
	}
	e.end(e.run())
}

// remote names the other end; a client of a Unix socket has no name.
func remote(conn net.Conn) string {
	a := conn.RemoteAddr()
	if a == nil || a.String() == "" {
		return "local"
	}
	return keyrelease.Line(a.String())
}

// Stats counts the exchanges.
type Stats struct {
	Released   uint64 // keys that were sent
	Created    uint64 // of these, made for it
	Reported   uint64 // states that may be used, or that are known now
	Refused    uint64 // by a rule
	Broken     uint64 // by clients that left, were slow or did not keep the protocol
	Failed     uint64 // for a key file that is damaged, or a folder that cannot be written
	TurnedAway uint64 // beyond the bounds of connections
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	return Stats{
		Released: s.released.Load(), Created: s.created.Load(), Reported: s.reported.Load(), Refused: s.refused.Load(),
		Broken: s.broken.Load(), Failed: s.failed.Load(), TurnedAway: s.turnedAway.Load(),
	}
}
