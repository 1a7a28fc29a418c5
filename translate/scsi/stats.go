package scsi

import "sync/atomic"

// Stats counts what was refused since the controller was made.
type Stats struct {
	Illegal    uint64 // commands with wrong fields, codes or logical units
	Protected  uint64 // writes to what is read-only or full
	Errors     uint64 // medium and hardware errors, comparisons that failed
	NotReady   uint64
	Attentions uint64 // unit attentions that were reported
	Conflicts  uint64 // reservation conflicts
	Overruns   uint64 // buffers too short for the data
	Aborted    uint64
	Busy       uint64 // TASK SET FULL
}

type counters struct {
	illegal, protected, errors, notReady, attentions, conflicts, overruns, aborted, busy atomic.Uint64
}

// count counts a CHECK CONDITION and tells whether it is an error of the medium or the
// device.
func (c *counters) count(s sense) bool {
	switch s.key {
	case keyIllegalRequest:
		c.illegal.Add(1)
	case keyDataProtect:
		c.protected.Add(1)
	case keyNotReady:
		c.notReady.Add(1)
	case keyUnitAttention:
		c.attentions.Add(1)
	default:
		c.errors.Add(1)
		return true
	}
	return false
}

// Stats returns the counters.
func (ct *Controller) Stats() Stats {
	c := &ct.counters
	return Stats{
		Illegal: c.illegal.Load(), Protected: c.protected.Load(), Errors: c.errors.Load(), NotReady: c.notReady.Load(),
		Attentions: c.attentions.Load(), Conflicts: c.conflicts.Load(), Overruns: c.overruns.Load(),
		Aborted: c.aborted.Load(), Busy: c.busy.Load(),
	}
}
