package paravisor

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"keel/diag/inspect"
	"keel/diag/server"
	"keel/hcl"
	"keel/paravisor/config"
)

// logTo makes a log as the command does, into a buffer.
func logTo(out io.Writer) func(slog.Leveler, bool) slog.Handler {
	return func(level slog.Leveler, _ bool) slog.Handler {
		return slog.NewTextHandler(out, &slog.HandlerOptions{Level: level})
	}
}

// configured is a keel that logs, and no more.
func configured(c *config.Config, p config.Policy, out io.Writer) *keel {
	k := &keel{config: c, env: Environment{Policy: p}}
	k.env.Log = k.logs.open(c, logTo(out))
	k.logs.trace(c, &p, k.env.Log)
	return k
}

// setting finds one by its name.
func setting(t *testing.T, k *keel, name string) server.Setting {
	t.Helper()
	for _, s := range k.settings() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no setting %q", name)
	return server.Setting{}
}

// TestConfidentialLog: what is private goes to the host of a plain guest only.
func TestConfidentialLog(t *testing.T) {
	for isolation, want := range map[config.Isolation]string{
		config.IsolationNone: "value=secret lun=3\n", config.IsolationSNP: "value=(private) lun=3\n",
	} {
		var out bytes.Buffer
		k := configured(&config.Config{Isolation: isolation}, config.Release(), &out)
		k.env.Log.Info("line", "value", "secret", inspect.PublicAttr("lun", 3))
		if !strings.HasSuffix(out.String(), want) {
			t.Errorf("%v: %q", isolation, out.String())
		}
	}
}

// TestSettings sets what may be set, and what the policy refuses.
func TestSettings(t *testing.T) {
	var out bytes.Buffer
	debug := configured(&config.Config{}, config.Debug(), &out)
	release := configured(&config.Config{}, config.Release(), io.Discard)
	isolated := configured(&config.Config{Isolation: config.IsolationSNP}, config.Debug(), io.Discard)
	for _, tt := range []struct {
		keel        *keel
		name, value string
		want        error
	}{
		{debug, "log_level", "debug", nil},
		{debug, "log_level", "DEBUG", server.ErrValue},
		{release, "log_level", "debug", server.ErrPolicy},
		{release, "log_level", "error", nil},
		{debug, "trace_exits", "all", nil},
		{debug, "trace_exits", "off", nil},
		{debug, "trace_exits", "pio,mmio", nil},
		{debug, "trace_exits", "", server.ErrValue},
		{debug, "trace_exits", "pio,", server.ErrValue},
		{debug, "trace_exits", "unknown", server.ErrValue},
		{release, "trace_exits", "pio", server.ErrPolicy},
		{isolated, "trace_exits", "pio", server.ErrPolicy},
		{debug, "gc_percent", "4", server.ErrValue},
		{debug, "gc_percent", "201", server.ErrValue},
		{debug, "gc_percent", "-1", server.ErrValue},
		{debug, "gc_percent", "9999999999999", server.ErrValue},
	} {
		s := setting(t, tt.keel, tt.name)
		before := s.Get()
		err := s.Set(tt.value)
		if !errors.Is(err, tt.want) || err == nil && s.Get() != tt.value || err != nil && s.Get() != before {
			t.Errorf("%s=%s: %v, is %q", tt.name, tt.value, err, s.Get())
		}
	}
	for _, name := range []string{"policy", "isolation"} {
		if s := setting(t, debug, name); s.Set != nil || s.Get() == "" {
			t.Errorf("%+v", s)
		}
	}
	// The level and the filter count from then on.
	out.Reset()
	debug.env.Log.Debug("details")
	debug.logs.exits.observe(0, hcl.Exit{Kind: hcl.ExitHalt})
	debug.logs.exits.observe(0, hcl.Exit{Kind: hcl.ExitPIO})
	if text := out.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "details") || !strings.Contains(text, "kind=pio") {
		t.Errorf("%s", text)
	}
}

// TestQuietExits: exits that nobody wants to see cost no allocation.
func TestQuietExits(t *testing.T) {
	trace := exitTrace{}
	data := []byte{1}
	if n := testing.AllocsPerRun(100, func() { trace.observe(0, hcl.Exit{Kind: hcl.ExitPIO, Data: data}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if release := configured(&config.Config{}, config.Release(), io.Discard); release.logs.exits != nil {
		t.Error("a VP of a release image asks whether its exits are logged")
	}
}
