package vsock

import "sync/atomic"

// counters are what Stats reads.
type counters struct {
	Open                                                              atomic.Int64
	Clients, GuestRequests, Connected, Refused, TimedOut              atomic.Uint64
	PacketsToGuest, PacketsFromGuest, BytesToGuest, BytesFromGuest    atomic.Uint64
	BadPackets, Resets, DroppedResets, CreditStalls, Broken, Messages atomic.Uint64
}

// Stats is what a device has done so far.
type Stats struct {
	Open          int64  // connections now, clients without a CONNECT included
	Clients       uint64 // that connected to the socket
	GuestRequests uint64 // connections that the guest asked for
	Connected     uint64 // connections that came about, of both kinds
	Refused       uint64 // clients and requests that got none: bad line, too many, nobody there
	TimedOut      uint64 // connections that ended because somebody was too slow

	PacketsToGuest, PacketsFromGuest uint64
	BytesToGuest, BytesFromGuest     uint64 // payload

	BadPackets    uint64 // packets of the guest that break the rules
	Resets        uint64 // connections that we reset, or whose shutdown we confirmed
	DroppedResets uint64 // packets to nobody that stayed without an answer, for want of room
	CreditStalls  uint64 // times that a client had data and the guest no room
	Broken        uint64 // times that malformed virtqueues stopped the device
	Messages      uint64 // of vhost-user
}

// Stats returns the counters.
func (d *Device) Stats() Stats {
	c := &d.count
	return Stats{
		Open: c.Open.Load(), Clients: c.Clients.Load(), GuestRequests: c.GuestRequests.Load(),
		Connected: c.Connected.Load(), Refused: c.Refused.Load(), TimedOut: c.TimedOut.Load(),
		PacketsToGuest: c.PacketsToGuest.Load(), PacketsFromGuest: c.PacketsFromGuest.Load(),
		BytesToGuest: c.BytesToGuest.Load(), BytesFromGuest: c.BytesFromGuest.Load(),
		BadPackets: c.BadPackets.Load(), Resets: c.Resets.Load(), DroppedResets: c.DroppedResets.Load(),
		CreditStalls: c.CreditStalls.Load(), Broken: c.Broken.Load(), Messages: c.Messages.Load(),
	}
}
