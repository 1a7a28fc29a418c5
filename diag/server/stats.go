package server

import (
	"sync/atomic"

	"keel/diag/inspect"
)

type counters struct {
	clients, turnedAway, slow, frames        atomic.Uint64
	requests, invalid, refused, busy, denied atomic.Uint64
	streams, signed                          atomic.Uint64
}

// Stats is what a server has done so far.
type Stats struct {
	Open       int    // clients now
	Clients    uint64 // that were served
	TurnedAway uint64 // that came while MaxClients were there
	Slow       uint64 // that were dropped: idle, half a request, or an answer not taken
	BadFrames  uint64 // that were dropped for what they sent
	Requests   uint64 // and streams
	Streams    uint64
	Following  int    // streams now
	Invalid    uint64 // requests that were malformed, or for what there is not
	Refused    uint64 // requests that the state of the VM refuses, or that failed
	Denied     uint64 // requests that the policy does not allow
	Signed     uint64 // requests that the owner signed
	Busy       uint64 // requests that did not get their turn in time, and streams for which there was no room
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	open := len(s.clients)
	s.mu.Unlock()
	c := &s.counts
	return Stats{
		Open: open, Clients: c.clients.Load(), TurnedAway: c.turnedAway.Load(), Slow: c.slow.Load(), BadFrames: c.frames.Load(),
		Requests: c.requests.Load(), Invalid: c.invalid.Load(), Refused: c.refused.Load(), Busy: c.busy.Load(), Denied: c.denied.Load(),
		Signed: c.signed.Load(), Streams: c.streams.Load(), Following: len(s.open),
	}
}

// Inspect writes the counters. All is known to the host, whose clients these are.
func (s *Server) Inspect(f *inspect.Fields) {
	n := s.Stats()
	count := func(name string, v uint64, doc string) { f.Uint(name, inspect.Public, inspect.Count, v, doc) }
	f.Gauge("open", inspect.Public, inspect.Count, uint64(n.Open), "clients now")
	count("clients", n.Clients, "clients that were served")
	count("turned_away", n.TurnedAway, "clients that came while there was no room")
	count("slow", n.Slow, "clients that were dropped because they were too slow")
	count("bad_frames", n.BadFrames, "clients that were dropped for what they sent")
	count("requests", n.Requests, "requests, streams among them")
	count("streams", n.Streams, "streams")
	f.Gauge("following", inspect.Public, inspect.Count, uint64(n.Following), "streams now")
	count("invalid", n.Invalid, "requests that were malformed, or for what there is not")
	count("refused", n.Refused, "requests that were refused or failed")
	count("denied", n.Denied, "requests that the policy does not allow")
	count("signed", n.Signed, "requests that the owner signed")
	count("busy", n.Busy, "requests that did not get their turn in time, and streams for which there was no room")
	f.Node("programs", s.programs, "programs and consoles that clients use")
}

// Inspect writes the figures of the service Programs.
func (s programs) Inspect(f *inspect.Fields) {
	f.Gauge("running", inspect.Public, inspect.Count, uint64(s.sessions.Running()), "programs that run for clients")
	readers, lost := 0, uint64(0)
	for _, c := range s.config.Programs.Consoles {
		if c.Output != nil {
			now, n := c.Output.Readers()
			readers, lost = readers+now, lost+n
		}
	}
	f.Gauge("console_readers", inspect.Public, inspect.Count, uint64(readers), "clients who follow a serial port of the guest")
	f.Uint("console_lost", inspect.Public, inspect.Bytes, lost, "bytes of serial ports that slow clients lost")
}
