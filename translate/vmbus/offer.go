package vmbus

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
)

// Offer describes a channel to the guest.
type Offer struct {
	Interface GUID // the kind of device
	Instance  GUID // the device; the same for its sub-channels
	// Sub is 0 for a device's first channel, and tells its sub-channels apart.
	Sub uint16
	// MaxPacket is the longest packet that the device takes, in bytes of
	// descriptor, page list and payload; 0 for 4096. Longer ones are passed over.
	MaxPacket int
}

// Device is what stands behind a channel. Open, Receive, Writable and Close are
// called by one goroutine at a time, without locks of the server; they do not
// block.
type Device interface {
	// Open is called when the guest opens the channel, before it is told. An error
	// refuses.
	Open(c *Channel) error
	// Receive takes a packet. It returns false when it has no means for it now: the
	// packet stays in the ring, and the device calls Channel.Resume once it has.
	Receive(c *Channel, p *Packet) bool
	// Writable is called when a packet did not fit into the guest's ring and the
	// guest has signalled since.
	Writable(c *Channel)
	// Close is called once after each successful Open: the guest closes the
	// channel, disconnects or was reset, or the channel was rescinded. The device
	// calls Channel.Closed, from anywhere, when it uses no guest memory any more.
	Close(c *Channel)
}

// Poller is an optional capability of a device that is busy enough to look for
// packets by itself.
type Poller interface {
	// Polls tells that work is under way whose end will call Channel.Poll. The
	// guest is then not asked to signal packets: under load it writes its ring
	// without leaving the VP.
	Polls() bool
}

// state is where a channel stands.
type state uint8

const (
	stateClosed  state = iota
	stateOpening       // Device.Open is to be called
	stateOpen
	stateClosing // Device.Close was called, or Open is under way
)

// Channel is one channel of the bus.
type Channel struct {
	server *Server
	offer  Offer
	device Device
	poller Poller        // the device, where it is one
	target atomic.Uint32 // VP of interrupts, or noVP
	flag   atomic.Uint32 // event flag of interrupts: relID, for whoever has no lock

	// The server's lock guards these.
	state    state
	revoked  bool   // rescinded: it goes when the guest releases its number
	released bool   // the guest released the number while the channel was closing
	relID    uint32 // number that the guest knows it by, 0 for none
	openID   uint32
	gpadls   map[uint32]*gpadl
	ring     *gpadl // that holds the rings
	reopen   []byte // OPEN_CHANNEL that came while closing

	// Requests to the goroutine that serves the channel.
	work    executor
	opening atomic.Bool
	closing atomic.Bool
	hand    chan struct{} // the worker takes over
	quit    chan struct{}
	working atomic.Bool // the worker exists
	polling atomic.Bool // the guest was not asked to signal, see Poll
	stopped atomic.Bool

	// The goroutine that serves owns these.
	live    bool // between Open and Close
	broken  bool
	in      inRing
	packet  Packet
	scratch []byte

	out outRing
}

// Offer adds a channel, which the guest learns of when it asks or at once. A device
// offers its own sub-channels, with the same instance.
func (s *Server) Offer(o Offer, d Device) (*Channel, error) {
	if o.MaxPacket == 0 {
		o.MaxPacket = defaultPacket
	}
	if d == nil || o.MaxPacket < smallestPacket || o.MaxPacket > largestPacket {
		return nil, fmt.Errorf("%w: packets of %d bytes", ErrConfig, o.MaxPacket)
	}
	c := &Channel{
		server: s, offer: o, device: d, gpadls: map[uint32]*gpadl{},
		hand: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	c.poller, _ = d.(Poller)
	c.target.Store(noVP)
	s.mu.Lock()
	defer s.unlock()
	if slices.ContainsFunc(s.channels, func(other *Channel) bool { return !other.revoked && other.same(c) }) {
		return nil, fmt.Errorf("%w: %s sub-channel %d is offered already", ErrConfig, o.Instance, o.Sub)
	}
	if len(s.channels) >= s.maxChannels {
		return nil, ErrLimit
	}
	s.channels = append(s.channels, c)
	if s.state == connected && s.offered {
		s.announce(c)
	}
	return c, nil
}

// same tells whether two offers are of one channel of one device.
func (c *Channel) same(o *Channel) bool {
	return c.offer.Interface == o.offer.Interface && c.offer.Instance == o.offer.Instance && c.offer.Sub == o.offer.Sub
}

// announce gives a channel a number and offers it. While the guest has not let go
// of a rescinded channel of the same name, which it would take for this one, the
// offer waits.
func (s *Server) announce(c *Channel) {
	if c.revoked || c.relID != 0 || slices.ContainsFunc(s.channels, func(o *Channel) bool { return o.revoked && o.relID != 0 && o.same(c) }) {
		return
	}
	for id := uint32(1); id < uint32(len(s.byRelID)); id++ {
		if s.byRelID[id].Load() != nil {
			continue
		}
		c.relID = id
		c.flag.Store(id)
		s.byRelID[id].Store(c)
		m := message(msgOfferChannel)
		copy(m[8:], c.offer.Interface[:])
		copy(m[24:], c.offer.Instance[:])
		// No flags and no data of the device's own.
		binary.LittleEndian.PutUint16(m[offsetOfferSub:], c.offer.Sub)
		binary.LittleEndian.PutUint32(m[offsetOfferRelID:], id)
		// No monitor. The interrupt is dedicated: guests need not set a bit in a
		// page that all channels share.
		binary.LittleEndian.PutUint16(m[offsetOfferShared:], offerDedicated)
		binary.LittleEndian.PutUint32(m[offsetOfferConn:], eventConnection|id)
		s.reply(m[:sizeOffer])
		return
	}
}

// release takes a channel's number and GPADLs away. A rescinded one is gone then.
// Preconditions: it is closed.
func (s *Server) release(c *Channel) {
	for _, g := range c.gpadls {
		s.gpadlFree(g)
	}
	c.ring, c.released, c.reopen = nil, false, nil
	if c.relID != 0 {
		s.byRelID[c.relID].Store(nil)
		c.relID = 0
	}
	if !c.revoked {
		return
	}
	if i := slices.Index(s.channels, c); i >= 0 {
		s.channels = slices.Delete(s.channels, i, i+1)
		c.stopWorker()
	}
	if s.state == connected && s.offered {
		for _, o := range s.channels {
			if o.same(c) {
				s.announce(o)
			}
		}
	}
}

// relIDReleased says that the guest forgets a channel.
func (s *Server) relIDReleased(m []byte) {
	c := s.lookup(field(m, 8))
	switch {
	case c == nil:
		s.n.unknownID.Add(1)
	case c.state == stateClosed:
		s.release(c)
	case c.state == stateClosing && c.reopen == nil:
		c.released = true
	default:
		s.n.unexpected.Add(1)
	}
}

// Rescind takes a channel back. The device hears of it through Close when the
// channel is open, and does not use the channel afterwards.
func (c *Channel) Rescind() {
	s := c.server
	s.mu.Lock()
	defer s.unlock()
	if c.revoked {
		return
	}
	c.revoked, c.reopen = true, nil
	switch {
	case c.relID == 0:
		s.release(c)
	case s.state == connected:
		m := message(msgRescindOffer)
		binary.LittleEndian.PutUint32(m[8:], c.relID)
		s.reply(m[:sizeRelID])
		fallthrough
	default:
		s.beginClose(c)
	}
}
