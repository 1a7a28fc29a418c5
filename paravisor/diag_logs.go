package paravisor

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"

	"keel/diag/journal"
	"keel/diag/kmsg"
	"keel/diag/server"
	"keel/paravisor/config"
)

// logs is the paravisor's log, and how it is set.
type logs struct {
	level   slog.LevelVar
	journal journal.Journal
	exits   *exitTrace // nil unless exits may be logged
}

// open makes the logger. In a confidential machine what goes to the host has no private
// values.
func (l *logs) open(c *config.Config, out func(level slog.Leveler, json bool) slog.Handler) *slog.Logger {
	l.level.Set(c.LogLevel)
	return slog.New(l.journal.Handler(out(&l.level, c.LogJSON), c.Isolation != config.IsolationNone))
}

// trace makes the trace of exits, where the policy allows one. Without it a VP pays
// nothing.
func (l *logs) trace(c *config.Config, p *config.Policy, log *slog.Logger) {
	if !p.TraceExits {
		return
	}
	l.exits = &exitTrace{log: log}
	if c.TraceExits {
		l.exits.kinds.Store(allKinds)
	}
}

// collector is how the collector of Go's heap is set.
type collector struct{ percent atomic.Int64 }

// Bounds of how much the heap may grow until it is collected: what is more would not fit
// into VTL2's memory.
const minGCPercent, maxGCPercent = 5, 200

func (g *collector) set(percent int64) {
	debug.SetGCPercent(int(percent))
	g.percent.Store(percent)
}

// logLevels are the names of the levels.
var logLevels = []struct {
	name  string
	level slog.Level
}{
	{"debug", slog.LevelDebug}, {"info", slog.LevelInfo}, {"warn", slog.LevelWarn}, {"error", slog.LevelError},
}

// setLevel changes the level. The policy bounds it.
func (l *logs) setLevel(p *config.Policy, name string) error {
	for _, known := range logLevels {
		if known.name != name {
			continue
		}
		if known.level < p.LogLevel {
			return fmt.Errorf("%w: %s is for debug images", server.ErrPolicy, name)
		}
		l.level.Set(known.level)
		return nil
	}
	return fmt.Errorf("%w: %q", server.ErrValue, name)
}

// levelName returns the name of the level.
func (l *logs) levelName() string { return strings.ToLower(l.level.Level().String()) }

// logsConfig is what the diagnostics tell of logs and settings.
func (k *keel) logsConfig() server.LogsConfig {
	return server.LogsConfig{Journal: &k.logs.journal, Kmsg: kmsg.Read, Settings: k.settings()}
}

// settings are what can be set while the guest runs, and what cannot.
func (k *keel) settings() server.Settings {
	constant := func(v string) func() string { return func() string { return v } }
	traceValue, setTrace := constant(traceNone), func(string) error {
		return fmt.Errorf("%w: exits are logged by debug images", server.ErrPolicy)
	}
	switch t := k.logs.exits; {
	case k.confidential():
		setTrace = func(string) error {
			return fmt.Errorf("%w: when a confidential guest exits is its own", server.ErrPolicy)
		}
	case t != nil:
		traceValue, setTrace = t.String, t.set
	}
	return server.Settings{
		{
			Name: "log_level", Doc: "the least level that is logged", Values: "debug, info, warn or error",
			Get: k.logs.levelName, Set: func(v string) error { return k.logs.setLevel(&k.env.Policy, v) },
		},
		{
			Name: "trace_exits", Doc: "kinds of guest exits that are logged, which is slow",
			Values: traceNone + ", " + traceAll + " or kinds apart by commas: " + exitKinds(), Get: traceValue, Set: setTrace,
		},
		{
			Name: "gc_percent", Doc: "growth of the paravisor's heap until it is collected, in percent",
			Values: fmt.Sprintf("%d to %d", minGCPercent, maxGCPercent),
			Get:    func() string { return strconv.FormatInt(k.gc.percent.Load(), 10) },
			Set: func(v string) error {
				percent, err := strconv.ParseInt(v, 10, 32)
				if err != nil || percent < minGCPercent || percent > maxGCPercent {
					return fmt.Errorf("%w: %q", server.ErrValue, v)
				}
				k.gc.set(percent)
				return nil
			},
		},
		{Name: "policy", Doc: "the policy of the image", Get: constant(k.env.Policy.Name)},
		{Name: "isolation", Doc: "the TEE beneath which the guest runs", Get: constant(k.config.Isolation.String())},
	}
}
