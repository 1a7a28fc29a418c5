package nvme

import (
	"math/bits"
	"sync/atomic"

	"keel/diag/inspect"
	"keel/translate/meter"
)

// Stats counts what a controller did since Open.
type Stats struct {
	Reads, Writes, Flushes    uint64 // commands that were submitted, without retries
	Discards, Zeroes          uint64
	Compares, Admin           uint64
	Errors                    uint64 // completions with a status other than success
	Retries                   uint64 // commands that were submitted again after one
	Timeouts                  uint64
	Aborts                    uint64 // Abort commands
	Resets                    uint64 // attempts
	Replays                   uint64 // commands that were submitted again after a reset
	Spurious                  uint64 // completions that belong to no command
	BadHeads                  uint64 // completions with an impossible submission queue head
	Broken                    uint64 // requests whose segments changed while they were under way
	Refused                   uint64 // namespaces that could not be used
	Events                    uint64 // asynchronous ones
	Bounced                   uint64 // bytes
	Interrupts, Polls, Missed uint64 // how completions were found; Missed: by the watchdog

	ReadBytes, WrittenBytes uint64       // that commands moved which succeeded
	Full                    uint64       // requests that found no room in the queues and waited
	Depth, DepthHighest     int          // commands under way now; at most, summed over the queue pairs
	Latency                 meter.Counts // from submission to completion, of each time that a command was submitted
}

// counters are those of one queue pair, so that pairs share no cache line.
type counters struct {
	reads, writes, flushes, discards, zeroes, compares, admin atomic.Uint64

	good, errors, retries, timeouts, replays atomic.Uint64
	spurious, badHeads, bounced              atomic.Uint64
	interrupts, polls, missed                atomic.Uint64

	read, written, full atomic.Uint64 // bytes, bytes, requests
	latency             meter.Histogram
}

// rarely counts and tells whether that is worth a line in the log: the first few
// times, then each time that the count has doubled. What a controller does over
// and over does not fill the log.
type rarely struct{ n atomic.Uint64 }

// freely is how many lines are written before they become rare.
const freely = 8

func (r *rarely) again() bool {
	n := r.n.Add(1)
	return n <= freely || bits.OnesCount64(n) == 1
}

// submitted counts a command.
func (n *counters) submitted(opcode byte) {
	switch opcode {
	case cmdRead:
		n.reads.Add(1)
	case cmdWrite:
		n.writes.Add(1)
	case cmdFlush:
		n.flushes.Add(1)
	case cmdDataset:
		n.discards.Add(1)
	case cmdWriteZeroes:
		n.zeroes.Add(1)
	case cmdCompare:
		n.compares.Add(1)
	}
}

// completed counts a command that succeeded, with blocks of so many bytes.
func (n *counters) completed(e *entry, block uint32) {
	n.good.Add(1)
	switch e.opcode() {
	case cmdRead:
		n.read.Add(e.count() * uint64(block))
	case cmdWrite:
		n.written.Add(e.count() * uint64(block))
	}
}

// add adds the counters to a sum.
func (n *counters) add(s *Stats) {
	s.Reads += n.reads.Load()
	s.Writes += n.writes.Load()
	s.Flushes += n.flushes.Load()
	s.Discards += n.discards.Load()
	s.Zeroes += n.zeroes.Load()
	s.Compares += n.compares.Load()
	s.Admin += n.admin.Load()
	s.Errors += n.errors.Load()
	s.Retries += n.retries.Load()
	s.Timeouts += n.timeouts.Load()
	s.Replays += n.replays.Load()
	s.Spurious += n.spurious.Load()
	s.BadHeads += n.badHeads.Load()
	s.Bounced += n.bounced.Load()
	s.Interrupts += n.interrupts.Load()
	s.Polls += n.polls.Load()
	s.Missed += n.missed.Load()
	s.ReadBytes += n.read.Load()
	s.WrittenBytes += n.written.Load()
	s.Full += n.full.Load()
	n.latency.AddTo(&s.Latency)
}

// Stats returns the counters.
func (c *Controller) Stats() Stats {
	s := Stats{
		Aborts:  c.aborts.Load(),
		Resets:  c.resets.n.Load(),
		Broken:  c.broken.Load(),
		Refused: c.refused.Load(),
		Events:  c.events.Load(),
	}
	c.admin.count.add(&s)
	for _, q := range c.queues {
		q.count.add(&s)
		s.Depth += max(q.issued.Now(), 0)
		s.DepthHighest += q.issued.Highest()
	}
	return s
}

// Inspect writes the counters. The host, whose controller it is, could count all of them.
func (c *Controller) Inspect(f *inspect.Fields) {
	s := c.Stats()
	f.Text("serial", inspect.Public, c.Serial(), "serial number that the controller gives itself")
	for _, n := range []struct {
		name string
		unit inspect.Unit
		v    uint64
		doc  string
	}{
		{"reads", inspect.Count, s.Reads, "Read commands, without retries, as the next ones"},
		{"writes", inspect.Count, s.Writes, "Write commands"},
		{"flushes", inspect.Count, s.Flushes, "Flush commands"},
		{"discards", inspect.Count, s.Discards, "Dataset Management commands"},
		{"zeroes", inspect.Count, s.Zeroes, "Write Zeroes commands"},
		{"compares", inspect.Count, s.Compares, "Compare commands"},
		{"admin", inspect.Count, s.Admin, "admin commands"},
		{"read_bytes", inspect.Bytes, s.ReadBytes, "bytes that Read commands moved"},
		{"written_bytes", inspect.Bytes, s.WrittenBytes, "bytes that Write commands moved"},
		{"bounced_bytes", inspect.Bytes, s.Bounced, "of these, bytes that were copied through Keel's own pages"},
		{"errors", inspect.Count, s.Errors, "completions with a status other than success"},
		{"retries", inspect.Count, s.Retries, "commands that were submitted again after one"},
		{"timeouts", inspect.Count, s.Timeouts, "commands that took too long"},
		{"resets", inspect.Count, s.Resets, "attempts to reset the controller"},
		{"replays", inspect.Count, s.Replays, "commands that were submitted again after a reset"},
		{"full", inspect.Count, s.Full, "requests that found no room in a queue and waited"},
		{"interrupts", inspect.Count, s.Interrupts, "interrupts of I/O queues"},
		{"polls", inspect.Count, s.Polls, "times that polling found completions"},
	} {
		f.Uint(n.name, inspect.Public, n.unit, n.v, n.doc)
	}
	f.Gauge("queues", inspect.Public, inspect.Count, uint64(c.Queues()), "pairs of I/O queues")
	f.Gauge("depth", inspect.Public, inspect.Count, uint64(s.Depth), "commands under way")
	f.Gauge("depth_highest", inspect.Public, inspect.Count, uint64(s.DepthHighest), "the most that ever were, summed over the queue pairs")
	f.Histogram("latency", inspect.Public, inspect.Microseconds, s.Latency.Inspect(), "from submission to completion")
}
