package vtl

import (
	"fmt"
	"strings"

	"keel/hcl"
)

// EndKind says how a run of the guest ended.
type EndKind uint8

// The ends.
const (
	EndPowerOff EndKind = iota // the guest turned itself off
	EndReset                   // the guest asked to start over
	EndCrash                   // the guest cannot go on; Message says why
	EndStopped                 // Keel stopped it
)

// End is the end of a run.
type End struct {
	Kind    EndKind
	Message string // one line: why it crashed, or by which means it reset
	Detail  string // of a crash, the same line's rest: what the guest did, which is its own
}

// resetRIP is RIP after a reset (AMD64 APM vol. 2 §14.1.3).
const resetRIP = 0xfff0

// crash ends the guest over what it did: the reason is Keel's word, the detail what
// Keel knows of it. RIP and the last exits become a part of the detail. AMD processors
// forget where a triple fault happened, and KVM resets the VP: then the last exit before
// tells at least what had been reached.
func (v *vp) crash(reason, detail string, e *hcl.Exit) {
	where := fmt.Sprintf("at RIP %#x", e.RIP)
	if e.Kind == hcl.ExitShutdown && e.RIP == resetRIP {
		where = "before its first exit"
		if v.rip != 0 {
			where = fmt.Sprintf("after RIP %#x", v.rip)
		}
	}
	v.guest.Stop(End{
		Kind:    EndCrash,
		Message: fmt.Sprintf("VP %d: %s", v.index, reason),
		Detail:  fmt.Sprintf("%s; %s; last exits: %s", where, detail, &v.trace),
	})
}

// trace keeps the last exits of a VP for the report of a crash.
type trace struct {
	ring [8]traceEntry
	next int
}

type traceEntry struct {
	kind   hcl.ExitKind
	write  bool
	size   uint8
	where  uint64
	filled bool
}

// add records an exit.
func (t *trace) add(e *hcl.Exit) {
	t.ring[t.next] = traceEntry{e.Kind, e.Write, e.Size, whereOf(e), true}
	t.next = (t.next + 1) % len(t.ring)
}

// String lists the exits, oldest first.
func (t *trace) String() string {
	var b strings.Builder
	for i := range t.ring {
		e := &t.ring[(t.next+i)%len(t.ring)]
		if !e.filled {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(e.kind.String())
		switch e.kind {
		case hcl.ExitPIO, hcl.ExitMMIO:
			direction := "read"
			if e.write {
				direction = "write"
			}
			fmt.Fprintf(&b, " %s %#x/%d", direction, e.where, e.size)
		case hcl.ExitMSRRead, hcl.ExitMSRWrite:
			fmt.Fprintf(&b, " %#x", e.where)
		default: // its name says all
		}
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}

// describe names the exit that ended the guest.
func describe(e *hcl.Exit) string {
	switch e.Kind {
	case hcl.ExitEmulationFailed:
		return fmt.Sprintf("reason %d", e.Value)
	case hcl.ExitMemoryFault:
		return fmt.Sprintf("GPA %#x", e.GPA)
	default:
		return e.Kind.String()
	}
}
