package config

import (
	"fmt"
	"log/slog"

	"keel/boot/handoff"
	"keel/diag/owner"
)

// Policy bounds what a configuration may ask for. It is part of the measured
// image, so that the host cannot widen it.
type Policy struct {
	Name       string
	MaxVPs     int
	MaxMemory  uint64     // bytes
	LogLevel   slog.Level // most talkative level allowed
	Console    Console    // widest console allowed
	TraceExits bool       // whether exits may be logged
	Strict     Strict     // widest mode allowed with isolation
	Owner      owner.Keys // who may see and command more than the host; none in most images
}

// Release returns the policy of release images: the host learns nothing of the
// guest beyond its console, its resources and how it ended.
func Release() Policy {
	return Policy{Name: "release", MaxVPs: MaxVPs, MaxMemory: MaxMemory, LogLevel: slog.LevelInfo}
}

// Debug returns the policy of debug images: all that the paravisor can do.
func Debug() Policy {
	return Policy{Name: "debug", MaxVPs: MaxVPs, MaxMemory: MaxMemory, LogLevel: slog.LevelDebug, TraceExits: true}
}

// PolicyFor returns the policy of an image: its flavour is "release" or "debug", its
// manifest may name an owner.
func PolicyFor(flavour, manifest string) (Policy, error) {
	for _, p := range []Policy{Release(), Debug()} {
		if p.Name != flavour {
			continue
		}
		var err error
		if p.Owner, err = owner.ParseManifest(manifest); err != nil {
			return Policy{}, badImage("the image has a bad manifest", err)
		}
		return p, nil
	}
	return Policy{}, badImage(fmt.Sprintf("the image names an unknown policy %q", flavour), nil)
}

func badImage(cause string, err error) error {
	return &handoff.Failure{Outcome: handoff.OutcomeBadImage, Cause: cause, Remedy: "rebuild the image with `make image`", Err: err}
}

// allow refuses what the policy does not allow.
func (p Policy) allow(c *Config) error {
	switch {
	case c.VPs > p.MaxVPs:
		return p.refuse(handoff.OutcomeBadVPCount, "vps", c.VPs, fmt.Sprintf("ask for at most %d", p.MaxVPs))
	case c.Memory > p.MaxMemory:
		return p.refuse(handoff.OutcomeBadConfig, "memoryBytes", c.Memory, fmt.Sprintf("ask for at most %d MiB", p.MaxMemory>>20))
	case c.LogLevel < p.LogLevel:
		return p.refuse(handoff.OutcomeBadConfig, "logLevel", c.LogLevel, fmt.Sprintf("use %v, or a debug image", p.LogLevel))
	case c.Console < p.Console:
		return p.refuse(handoff.OutcomeBadConfig, "consoleMode", c.Console, fmt.Sprintf("use %v", p.Console))
	case c.Isolation != IsolationNone && c.Strict < p.Strict:
		return p.refuse(handoff.OutcomeBadConfig, "strict", c.Strict, fmt.Sprintf("use %v", p.Strict))
	case c.TraceExits && !p.TraceExits:
		return p.refuse(handoff.OutcomeBadConfig, "traceExits", true, "leave it out, or use a debug image")
	}
	return nil
}

func (p Policy) refuse(o handoff.Outcome, field string, value any, remedy string) error {
	return &handoff.Failure{
		Outcome: o,
		Cause:   fmt.Sprintf("configuration: the %s policy of the image refuses %s = %v", p.Name, field, value),
		Remedy:  remedy,
	}
}
