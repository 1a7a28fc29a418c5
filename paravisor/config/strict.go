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

// stricts translates the enumeration; zero means the default.
var stricts = map[configpb.Strict]Strict{
	configpb.Strict_STRICT_UNSPECIFIED: StrictOff,
	configpb.Strict_STRICT_OFF:         StrictOff,
	configpb.Strict_STRICT_COUNT:       StrictCount,
	configpb.Strict_STRICT_KILL:        StrictKill,
}

// checkStrict checks the mode, which is of no use without isolation.
func checkStrict(c *Config, m *configpb.Config) error {
	var ok bool
	if c.Strict, ok = stricts[m.GetStrict()]; !ok {
		return bad(handoff.OutcomeBadConfig, "use one of the named modes", "strict = %d is unknown", m.GetStrict())
	}
	if c.Strict != StrictOff && c.Isolation == IsolationNone {
		return bad(handoff.OutcomeBadConfig, "add isolation", "strict = %v keeps nothing from a host that can read the guest", c.Strict)
	}
	return nil
}

// strictToProto is the inverse of checkStrict.
func strictToProto(s Strict) configpb.Strict {
	for name, mode := range stricts {
		if mode == s && name != configpb.Strict_STRICT_UNSPECIFIED {
			return name
		}
	}
	return -1
}
