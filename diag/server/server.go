// Package server answers the diagnostics service keel.diag.v1 (diag/diagpb) in the
// paravisor, with ttrpc.
//
// Its clients are on the host, which is hostile: their number, the size of what they
// send and what they may have under way are bounded, slow ones are dropped, and the
// policy decides what they see. Nothing is paid for it while nobody asks.
package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/log"
	"github.com/containerd/ttrpc"

	"keel/diag/inspect"
	"keel/diag/journal"
	"keel/diag/owner"
)

// MaxClients is how many clients are served at a time.
const MaxClients = 32

// Config is what a server serves.
type Config struct {
	Root inspect.Node
	// Confidential says that only public fields leave the VM.
	Confidential bool
	// Debug says that the image is one for debugging.
	Debug bool
	// Attest returns evidence for a nonce in the form of claims.Evidence.Marshal. It is
	// nil where the guest is not confidential. It gives up when its context ends.
	Attest func(ctx context.Context, nonce []byte) ([]byte, error)
	Logs   LogsConfig
	// Control acts on the guest; nil for nobody.
	Control Control
	// Programs is what the service Programs reaches.
	Programs Programs
	// Capture is nil where the guest has no disks.
	Capture Capture
	// Owner has the keys for which a confidential guest allows more.
	Owner owner.Keys
	// Instance returns what evidence calls the VM; nil for zeros.
	Instance func() owner.Instance
	Log      *slog.Logger // nil for none
}

// times are how long clients and answers may take.
type times struct {
	idle    time.Duration // for the next request, also while a stream is open
	frame   time.Duration // for the rest of a request
	stall   time.Duration // for a client to take a piece of an answer
	handler time.Duration // for an answer; shorter than idle
}

// Server answers clients.
type Server struct {
	config Config
	times  times
	ttrpc  *ttrpc.Server
	turns  chan struct{} // has an element for each request that is being answered
	open   chan struct{} // has an element for each stream
	budget *budget
	nonces nonces
	counts counters
	warned atomic.Int32

	setting sync.Mutex // held while something is set

	mu      sync.Mutex
	ended   bool
	clients map[*guard]struct{}

	programs programs
}

const (
	maxTurns   = 4  // requests that are answered at a time; each answer is in memory
	maxStreams = 32 // streams of all clients
)

// New makes a server.
func New(c Config) (*Server, error) {
	if c.Root == nil {
		return nil, errors.New("diagnostics server: no tree to show")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Logs.Journal == nil {
		c.Logs.Journal = &journal.Journal{}
	}
	s := &Server{
		config:  c,
		times:   times{idle: 2 * time.Minute, frame: 10 * time.Second, stall: 10 * time.Second, handler: 30 * time.Second},
		turns:   make(chan struct{}, maxTurns),
		open:    make(chan struct{}, maxStreams),
		budget:  newBudget(budgetShare, budgetMost),
		clients: map[*guard]struct{}{},
	}
	var err error
	if s.ttrpc, err = ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(s.call)); err != nil {
		return nil, err
	}
	s.register("Diag", service{s}.methods())
	s.register("Logs", logs{s}.methods())
	s.register("Control", control{s}.methods())
	s.programs = newPrograms(s)
	s.register("Programs", s.programs.methods())
	s.register("Capture", captures{s}.methods())
	s.register("Owner", owners{s}.methods())
	return s, nil
}

// silence keeps ttrpc's own log away, which clients could fill.
var silence = sync.OnceFunc(func() { log.L.Logger.SetOutput(io.Discard) })

// Serve answers clients of a listener until ctx ends or the listener fails, and closes
// it. A context that ended is no error. It is called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	silence()
	defer context.AfterFunc(ctx, s.end)()
	defer s.end()
	err := s.ttrpc.Serve(ctx, gate{l, s})
	if ctx.Err() != nil || errors.Is(err, ttrpc.ErrServerClosed) {
		return nil
	}
	return err
}

// end closes the listener and all connections.
func (s *Server) end() {
	s.mu.Lock()
	s.ended = true
	clients := s.clients
	s.clients = map[*guard]struct{}{}
	s.mu.Unlock()
	_ = s.ttrpc.Close() // of the listener: there is nothing to lose
	for g := range clients {
		_ = g.Close() // likewise
	}
}

// admit takes a client if there is room.
func (s *Server) admit(g *guard) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(s.clients) >= MaxClients {
		return false
	}
	s.clients[g] = struct{}{}
	s.counts.clients.Add(1)
	return true
}

func (s *Server) forget(g *guard) {
	s.mu.Lock()
	delete(s.clients, g)
	s.mu.Unlock()
}

// maxWarnings bounds what clients can make us log.
const maxWarnings = 16

// mayWarn tells whether a client may make us log another line.
func (s *Server) mayWarn() bool { return s.warned.Add(1) <= maxWarnings }
