package storvsp

import "sync/atomic"

// Stats counts what the controller did and refused since it was made.
type Stats struct {
	Requests   uint64 // SCSI commands that were passed on
	Completed  uint64 // answers of any kind
	Rescans    uint64 // times that the guest was told to look at its disks
	Stalls     uint64 // times that packets had to stay in a ring
	FullRings  uint64 // answers that had to wait for room in the guest's ring
	BadPackets uint64 // packets without a meaning, or that want no answer
	BadState   uint64 // operations out of order
	BadRequest uint64 // commands refused: lengths, direction, memory
	Absent     uint64 // commands for disks that are not there
	Dropped    uint64 // answers that the guest has closed its ring for
}

type counters struct {
	requests, completed, rescans, stalls, fullRings   atomic.Uint64
	badPackets, badState, badRequest, absent, dropped atomic.Uint64
}

// Stats returns the counts.
func (ct *Controller) Stats() Stats {
	n := &ct.n
	return Stats{
		Requests: n.requests.Load(), Completed: n.completed.Load(), Rescans: n.rescans.Load(),
		Stalls: n.stalls.Load(), FullRings: n.fullRings.Load(), BadPackets: n.badPackets.Load(),
		BadState: n.badState.Load(), BadRequest: n.badRequest.Load(), Absent: n.absent.Load(),
		Dropped: n.dropped.Load(),
	}
}
