package vtpm

import (
	"fmt"
	"maps"
	"slices"

	"keel/diag/inspect"
)

// Inspect writes the TPM's counters. What a guest does with its TPM the host cannot
// count: all of it is private but for what the host sees anyway, the commits.
func (t *TPM) Inspect(f *inspect.Fields) {
	s := t.Stats()
	const private, public = inspect.Private, inspect.Public
	f.Each("commands", "code", commands(s.Commands), "commands by code (Library part 2 §6.5.2); 0 for codes that do not exist")
	for _, c := range []struct {
		name string
		s    inspect.Sensitivity
		v    uint64
		doc  string
	}{
		{"failures", private, s.Failures, "responses with another code than TPM_RC_SUCCESS"},
		{"lockouts", private, s.Lockouts, "of these, TPM_RC_LOCKOUT"},
		{"cancels", private, s.Cancels, "commands that were asked to end early"},
		{"refused", private, s.Refused, "commands that came while another was under way"},
		{"starts", public, s.Starts, "worker processes that took over the TPM"},
		{"lost", public, s.Lost, "worker processes that died, hung or broke the protocol"},
		{"rollbacks", public, s.Rollbacks, "commands undone because their state could not be committed"},
		{"resets", public, s.Resets, "resets of the VM"},
		{"commits", public, s.Commits, "states committed"},
		{"commit_errors", public, s.CommitErrors, "commits that failed"},
	} {
		f.Uint(c.name, c.s, inspect.Count, c.v, c.doc)
	}
	f.Histogram("commit_latency", public, inspect.Microseconds, s.latency(), "how long commits took")
	f.Gauge("permanent", private, inspect.Bytes, uint64(s.Permanent), "size of the committed state")
	f.Gauge("volatile", private, inspect.Bytes, uint64(s.Volatile), "size of the last volatile state")
}

// latency returns the latencies of commits, in microseconds.
func (s *Stats) latency() inspect.Histogram {
	h := inspect.Histogram{Counts: s.CommitLatency[:]}
	for _, b := range CommitBuckets {
		h.Bounds = append(h.Bounds, uint64(b.Microseconds()))
	}
	return h
}

// commands is the node of the commands by code.
type commands map[uint32]uint64

// Inspect writes a number for each code.
func (c commands) Inspect(f *inspect.Fields) {
	for _, code := range slices.Sorted(maps.Keys(c)) {
		f.Uint(fmt.Sprintf("%#x", code), inspect.Private, inspect.Count, c[code], "commands with this code")
	}
}
