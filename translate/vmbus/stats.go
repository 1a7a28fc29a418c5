package vmbus

import "sync/atomic"

// Stats counts what the bus did and refused since it was made.
type Stats struct {
	Messages  uint64 // from the guest, of any kind
	Replies   uint64 // delivered to the guest
	Retries   uint64 // deliveries that had to wait for the guest
	Signals   uint64 // of the guest, for an open channel
	Interrupt uint64 // sent to the guest
	Packets   uint64 // handed to devices

	Malformed     uint64 // messages too short, of unknown type or with absurd counts
	Unexpected    uint64 // messages that the state of connection or channel forbids
	UnknownID     uint64 // channels and GPADLs that do not exist
	BadGPADL      uint64 // GPADLs refused: ranges, page numbers
	Limits        uint64 // GPADLs refused for their size or number
	BadOpen       uint64 // opens refused: rings, VP, device
	Versions      uint64 // contacts in a version that is not spoken
	Backpressure  uint64 // messages refused because the guest does not take its own
	Undelivered   uint64 // messages to the guest that were given up
	BadConnection uint64 // messages and signals to connections that are not the bus's
	BrokenRings   uint64 // channels stopped for indices or lengths that cannot be
	BadPackets    uint64 // packets skipped: type, size or page list
	LostInterrupt uint64 // interrupts that the hypervisor refused
}

// counters are the live form of Stats.
type counters struct {
	messages, replies, retries, signals, interrupts, packets atomic.Uint64

	malformed, unexpected, unknownID, badGPADL, limits, badOpen, versions   atomic.Uint64
	backpressure, undelivered, badConnection, brokenRings, badPackets, lost atomic.Uint64
}

// Stats returns the counts. It takes no lock; the counts need not be of one
// moment.
func (s *Server) Stats() Stats {
	n := &s.n
	return Stats{
		Messages: n.messages.Load(), Replies: n.replies.Load(), Retries: n.retries.Load(),
		Signals: n.signals.Load(), Interrupt: n.interrupts.Load(), Packets: n.packets.Load(),
		Malformed: n.malformed.Load(), Unexpected: n.unexpected.Load(), UnknownID: n.unknownID.Load(),
		BadGPADL: n.badGPADL.Load(), Limits: n.limits.Load(), BadOpen: n.badOpen.Load(),
		Versions: n.versions.Load(), Backpressure: n.backpressure.Load(), Undelivered: n.undelivered.Load(),
		BadConnection: n.badConnection.Load(), BrokenRings: n.brokenRings.Load(),
		BadPackets: n.badPackets.Load(), LostInterrupt: n.lost.Load(),
	}
}
