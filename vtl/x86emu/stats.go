package x86emu

import "sync/atomic"

// counters are read by others while the VP runs.
type counters struct {
	done, again, faults atomic.Uint64
	refused             [reasonCount]atomic.Uint64
}

// Stats counts the outcomes of steps.
type Stats struct {
	Done, Continue, Faults uint64
	Unsupported            [reasonCount]uint64 // by Reason
}

// Stats returns a snapshot. Any goroutine may call it.
func (e *Emulator) Stats() Stats {
	s := Stats{Done: e.count.done.Load(), Continue: e.count.again.Load(), Faults: e.count.faults.Load()}
	for i := range s.Unsupported {
		s.Unsupported[i] = e.count.refused[i].Load()
	}
	return s
}

// tally counts a result.
func (e *Emulator) tally(r *Result) {
	switch r.Outcome {
	case Done:
		e.count.done.Add(1)
	case Continue:
		e.count.again.Add(1)
	case Faulted:
		e.count.faults.Add(1)
	case Unsupported:
		e.count.refused[r.Reason].Add(1)
	}
}
