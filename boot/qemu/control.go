package qemu

import (
	"encoding/json"
	"io"
	"maps"
	"math"

	"keel/boot/handoff"
)

// known lists the outcomes that the VM may claim. Those that only the
// launcher can know are not the VM's to say.
var known = map[handoff.Outcome]bool{
	handoff.OutcomePoweroff: true, handoff.OutcomeBadKernel: true, handoff.OutcomeBadInitrd: true,
	handoff.OutcomeBadImage: true, handoff.OutcomeBadConfig: true, handoff.OutcomeHostRefused: true,
	handoff.OutcomeTooLittleMemory: true, handoff.OutcomeBadVPCount: true, handoff.OutcomeGuestCrashed: true,
	handoff.OutcomeParavisorCrashed: true, handoff.OutcomeBadDisk: true, handoff.OutcomeBadState: true,
	handoff.OutcomeStrict: true, handoff.OutcomeForcedOff: true,
}

// readEvents passes on the events of the control channel until it ends, and
// then closes events. Lines that are no event count as bad: the VM is not
// trusted to speak the protocol.
func readEvents(r io.Reader, events chan<- handoff.Event, bad *uint64) {
	defer close(events)
	eachLine(r, func(line []byte, whole bool) {
		var e handoff.Event
		if len(line) == 0 {
			return
		}
		if !whole || json.Unmarshal(line, &e) != nil || !plausible(&e) {
			*bad++
			return
		}
		e.Message = oneLine(e.Message)
		events <- e
	})
}

// plausible tells whether an event can be what it says.
func plausible(e *handoff.Event) bool {
	if e.TimeMS < 0 || e.TimeMS > math.MaxInt32 {
		return false
	}
	switch e.Event {
	case handoff.EventInit, handoff.EventStart, handoff.EventEntry, handoff.EventReset:
		return true
	case handoff.EventReport:
		return e.Report != nil
	case handoff.EventEnd:
		return known[e.Outcome]
	case handoff.EventDone:
		return e.ID != 0
	}
	return false
}

// maxWarnings bounds the warnings of a run: one for each disk and some.
const maxWarnings = 2 * MaxDisks

// Report is the run report of --json. Times are milliseconds from power-on
// of the VM; what did not happen is null.
type Report struct {
	Outcome  handoff.Outcome `json:"outcome"`
	ExitCode int             `json:"exit_code"`
	Message  string          `json:"message"`

	VTL2InitMS       *float64 `json:"vtl2_init_ms"`
	ParavisorStartMS *float64 `json:"paravisor_start_ms"`
	GuestEntryMS     *float64 `json:"guest_entry_ms"`
	GuestEndMS       *float64 `json:"guest_end_ms"`

	Exits               map[string]uint64 `json:"exits"`
	Refused             map[string]uint64 `json:"refused"`
	Warnings            []string          `json:"warnings"` // what makes the run less than it seems
	State               map[string]any    `json:"state"`    // what Keel's parts say of themselves (diag/inspect)
	VTL2MemoryUsedBytes uint64            `json:"vtl2_memory_used_bytes"`
	VTL2MemoryPeakBytes uint64            `json:"vtl2_memory_peak_bytes"`
	ImageBytes          int64             `json:"image_bytes"`

	Name             string `json:"name"`
	VPs              int    `json:"vps"`
	GuestMemoryBytes uint64 `json:"guest_memory_bytes"`
	Accel            Accel  `json:"accel"`
	QEMUVersion      string `json:"qemu_version"`
	Resets           uint64 `json:"resets"`
	BadEvents        uint64 `json:"bad_events"` // lines on the control channel that were no event
}

// apply takes an event into the report.
func (r *Report) apply(e *handoff.Event) {
	switch e.Event {
	case handoff.EventInit:
		first(&r.VTL2InitMS, e.TimeMS)
	case handoff.EventStart:
		first(&r.ParavisorStartMS, e.TimeMS)
	case handoff.EventEntry:
		first(&r.GuestEntryMS, e.TimeMS)
	case handoff.EventReset:
		r.Resets++
	case handoff.EventEnd:
		first(&r.GuestEndMS, e.TimeMS)
		r.Message = e.Message
	case handoff.EventReport, handoff.EventDone:
	}
	if f := e.Report; f != nil {
		r.Exits, r.Refused = maps.Clone(f.Exits), maps.Clone(f.Refused)
		r.Warnings = nil
		for _, w := range f.Warnings[:min(len(f.Warnings), maxWarnings)] {
			r.Warnings = append(r.Warnings, oneLine(w))
		}
		r.VTL2MemoryUsedBytes, r.VTL2MemoryPeakBytes = f.VTL2MemoryUsedBytes, f.VTL2MemoryPeakBytes
		r.Resets = max(r.Resets, f.GuestResets)
		r.State = f.State
	}
}

// first remembers the first time that something happened.
func first(to **float64, ms float64) {
	if *to == nil {
		*to = &ms
	}
}

// JSON returns the report as the contents of the file that --json names.
func (r *Report) JSON() ([]byte, error) {
	c := *r
	if c.Exits == nil {
		c.Exits = map[string]uint64{}
	}
	if c.Refused == nil {
		c.Refused = map[string]uint64{}
	}
	if c.State == nil {
		c.State = map[string]any{}
	}
	if c.Warnings == nil {
		c.Warnings = []string{}
	}
	b, err := json.MarshalIndent(&c, "", "  ")
	return append(b, '\n'), err
}
