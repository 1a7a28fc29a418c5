package config

import (
	"fmt"

	"keel/boot/handoff"
	"keel/paravisor/config/configpb"
)

// Strict is what becomes of requests to the host, once an isolated guest runs, that are
// not on the list of hcl.HostTable.
type Strict int

// The modes, from the widest to the narrowest.
const (
	StrictOff   Strict = iota // they are made
	StrictCount               // they are refused and counted
	StrictKill                // the first one ends the VM
)

// String returns the name that options use.
func (s Strict) String() string {
	switch s {
	case StrictOff:
		return "off"
	case StrictCount:
		return "count"
	case StrictKill:
		return "kill"
	}
	return "unknown"
}

// ParseStrict is the inverse of String. The error is a *handoff.Failure.
func ParseStrict(s string) (Strict, error) {
	for _, mode := range []Strict{StrictOff, StrictCount, StrictKill} {
		if s == mode.String() {
			return mode, nil
		}
	}
	return 0, &handoff.Failure{
		Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("unknown strict mode %q", s), Remedy: "use off, count or kill",
	}
}

// checkStrict refuses a mode that is of no use.
func checkStrict(c *Config, _ *configpb.Config) error {
	if c.Strict != StrictOff && c.Isolation == IsolationNone {
		return bad(handoff.OutcomeBadConfig, "add isolation", "strict = %v keeps nothing from a host that can read the guest", c.Strict)
	}
	return nil
}
