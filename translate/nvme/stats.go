package nvme

import (
	"math/bits"
	"sync/atomic"
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
}

// counters are those of one queue pair, so that pairs share no cache line.
type counters struct {
	reads, writes, flushes, discards, zeroes, compares, admin atomic.Uint64

	good, errors, retries, timeouts, replays atomic.Uint64
	spurious, badHeads, bounced              atomic.Uint64
	interrupts, polls, missed                atomic.Uint64
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
	}
	return s
}
