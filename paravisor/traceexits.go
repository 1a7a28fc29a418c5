package paravisor

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"keel/diag/inspect"
	"keel/diag/server"
	"keel/hcl"
)

// exitTrace logs guest exits of the kinds that are asked for. Its filter may be changed
// while the guest runs.
type exitTrace struct {
	kinds atomic.Uint32 // a bit for each
	log   *slog.Logger
}

// allKinds is the filter that lets everything through.
const allKinds = 1<<hcl.ExitKinds - 1

// Words for filters without a list of kinds.
const (
	traceAll  = "all"
	traceNone = "off"
)

// observe logs an exit as one line, with what it was about and the bytes that went
// either way.
func (t *exitTrace) observe(vp int, e hcl.Exit) {
	if t.kinds.Load()>>e.Kind&1 == 0 {
		return
	}
	args := []any{inspect.PublicAttr("vp", vp), "kind", e.Kind.String(), "rip", fmt.Sprintf("%#x", e.RIP)}
	direction := "read"
	if e.Write {
		direction = "write"
	}
	switch e.Kind {
	case hcl.ExitPIO:
		args = append(args, direction, fmt.Sprintf("%#x", e.Port), "data", fmt.Sprintf("%x", e.Data))
	case hcl.ExitMMIO:
		args = append(args, direction, fmt.Sprintf("%#x", e.GPA), "data", fmt.Sprintf("%x", e.Data))
	case hcl.ExitMSRRead:
		args = append(args, "msr", fmt.Sprintf("%#x", e.MSR))
	case hcl.ExitMSRWrite:
		args = append(args, "msr", fmt.Sprintf("%#x", e.MSR), "value", fmt.Sprintf("%#x", e.Value))
	default: // its name says all
	}
	t.log.Info("exit", args...)
}

// String returns the filter as set takes it.
func (t *exitTrace) String() string {
	kinds := t.kinds.Load()
	switch kinds {
	case 0:
		return traceNone
	case allKinds:
		return traceAll
	}
	var names []string
	for k := range hcl.ExitKinds {
		if kinds>>k&1 != 0 {
			names = append(names, k.String())
		}
	}
	return strings.Join(names, ",")
}

// set changes the filter. The error is server.ErrValue.
func (t *exitTrace) set(filter string) error {
	switch filter {
	case traceNone:
		t.kinds.Store(0)
		return nil
	case traceAll:
		t.kinds.Store(allKinds)
		return nil
	}
	kinds := uint32(0)
	for name := range strings.SplitSeq(filter, ",") {
		found := false
		for k := range hcl.ExitKinds {
			if k.String() == name {
				kinds, found = kinds|1<<k, true
			}
		}
		if !found {
			return fmt.Errorf("%w: %q is no kind of exit", server.ErrValue, name)
		}
	}
	t.kinds.Store(kinds)
	return nil
}

// exitKinds are the names of all kinds.
func exitKinds() string {
	var names []string
	for k := range hcl.ExitKinds {
		names = append(names, k.String())
	}
	return strings.Join(names, ", ")
}
