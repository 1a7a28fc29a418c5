package vtpm

import (
	"sync/atomic"
	"time"
)

// CommitBuckets are the upper bounds of the buckets of commit latencies. A last bucket
// takes what is slower.
var CommitBuckets = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond, time.Second,
}

// Stats is a copy of a TPM's counters, all since it was made.
type Stats struct {
	Commands map[uint32]uint64 // by command code; 0 stands for codes that do not exist
	Failures uint64            // responses with another code than TPM_RC_SUCCESS
	Lockouts uint64            // of these, TPM_RC_LOCKOUT
	Cancels  uint64            // commands that were asked to end early
	Refused  uint64            // commands that Submit did not take

	Starts    uint64 // worker processes that took over the TPM
	Lost      uint64 // worker processes that died, hung or broke the protocol
	Rollbacks uint64 // commands undone because their state could not be committed
	Resets    uint64 // resets of the VM

	Commits       uint64 // states committed
	CommitErrors  uint64
	CommitLatency [len(CommitBuckets) + 1]uint64 // commits by latency
	CommitTotal   time.Duration                  // their sum
	Permanent     int                            // size of the committed state, in bytes
	Volatile      int                            // size of the last volatile state, in bytes
}

// counters are what Stats copies.
type counters struct {
	commands                             [ccLast - ccFirst + 1]atomic.Uint64
	unknown                              atomic.Uint64
	failures, lockouts, cancels, refused atomic.Uint64
	starts, lost, rollbacks, resets      atomic.Uint64
	commits, commitErrors, commitNS      atomic.Uint64
	latency                              [len(CommitBuckets) + 1]atomic.Uint64
	permanent, volatile                  atomic.Int64
}

func (c *counters) command(cc uint32) {
	if cc >= ccFirst && cc <= ccLast {
		c.commands[cc-ccFirst].Add(1)
		return
	}
	c.unknown.Add(1)
}

func (c *counters) response(rc RC) {
	if rc == 0 {
		return
	}
	c.failures.Add(1)
	if rc == RCLockout {
		c.lockouts.Add(1)
	}
}

func (c *counters) commit(d time.Duration) {
	c.commits.Add(1)
	c.commitNS.Add(uint64(d))
	i := 0
	for i < len(CommitBuckets) && d > CommitBuckets[i] {
		i++
	}
	c.latency[i].Add(1)
}

// Stats returns the counters.
func (t *TPM) Stats() Stats {
	c := &t.count
	s := Stats{
		Commands: make(map[uint32]uint64),
		Failures: c.failures.Load(), Lockouts: c.lockouts.Load(), Cancels: c.cancels.Load(), Refused: c.refused.Load(),
		Starts: c.starts.Load(), Lost: c.lost.Load(), Rollbacks: c.rollbacks.Load(), Resets: c.resets.Load(),
		Commits: c.commits.Load(), CommitErrors: c.commitErrors.Load(), CommitTotal: time.Duration(c.commitNS.Load()),
		Permanent: int(c.permanent.Load()), Volatile: int(c.volatile.Load()),
	}
	for i := range c.commands {
		if n := c.commands[i].Load(); n > 0 {
			s.Commands[uint32(i+ccFirst)] = n
		}
	}
	if n := c.unknown.Load(); n > 0 {
		s.Commands[0] = n
	}
	for i := range c.latency {
		s.CommitLatency[i] = c.latency[i].Load()
	}
	return s
}
