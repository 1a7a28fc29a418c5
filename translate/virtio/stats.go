package virtio

import "sync/atomic"

type counters struct {
	refused, broken, resets atomic.Uint64
	cause                   atomic.Pointer[error]
}

// Stats counts what a device did and refused.
type Stats struct {
	Refused uint64 // register accesses that are malformed or come at the wrong time
	Broken  uint64 // rings that made no sense
	Resets  uint64
	Cause   error // of the last broken ring
	Queues  []QueueStats
}

// QueueStats counts what a queue did.
type QueueStats struct {
	Chains     uint64 // taken
	Interrupts uint64 // sent
	Dropped    uint64 // completions that came after a reset had begun
	HandedOver uint64 // times that a notification had more to do than one call may
}

// Stats returns the counters.
func (d *Device) Stats() Stats {
	s := Stats{Refused: d.counters.refused.Load(), Broken: d.counters.broken.Load(), Resets: d.counters.resets.Load()}
	if cause := d.counters.cause.Load(); cause != nil {
		s.Cause = *cause
	}
	for _, q := range d.queues {
		s.Queues = append(s.Queues, QueueStats{
			Chains: q.taken.Load(), Interrupts: q.interrupts.Load(),
			Dropped: q.dropped.Load(), HandedOver: q.handed.Load(),
		})
	}
	return s
}

func (d *Device) refuse() { d.counters.refused.Add(1) }
