package vmbus

import (
	"encoding/binary"
	"slices"
)

// least is the least size of each message that a guest may send.
var least = map[uint32]int{
	msgRequestOffers:    sizeHeader,
	msgOpenChannel:      sizeOpen,
	msgCloseChannel:     sizeRelID,
	msgGPADLHeader:      sizeGPADLHeader,
	msgGPADLBody:        sizeGPADLBody,
	msgGPADLTeardown:    sizeGPADLTeardown,
	msgRelIDReleased:    sizeRelID,
	msgInitiateContact:  sizeContact,
	msgUnload:           sizeHeader,
	msgTLConnectRequest: sizeTLConnect,
	msgModifyChannel:    sizeModify,
}

// dispatch handles a message. The lock is held.
func (s *Server) dispatch(m []byte) {
	if len(m) < sizeHeader || len(m) > MessageSize {
		s.n.malformed.Add(1)
		return
	}
	kind := field(m, 0)
	if size, known := least[kind]; !known || len(m) < size {
		s.n.malformed.Add(1)
		return
	}
	switch kind {
	case msgInitiateContact:
		s.initiateContact(m)
		return
	case msgUnload:
		s.disconnect(s.unloaded)
		return
	}
	if s.state != connected {
		s.n.unexpected.Add(1)
		return
	}
	switch kind {
	case msgRequestOffers:
		s.requestOffers()
	case msgOpenChannel:
		s.openChannel(m)
	case msgCloseChannel:
		s.closeChannel(m)
	case msgGPADLHeader:
		s.gpadlHeader(m)
	case msgGPADLBody:
		s.gpadlBody(m)
	case msgGPADLTeardown:
		s.gpadlTeardown(m)
	case msgRelIDReleased:
		s.relIDReleased(m)
	case msgTLConnectRequest:
		s.tlConnect(m)
	case msgModifyChannel:
		s.modifyChannel(m)
	}
}

// initiateContact connects, after leaving an older connection: a kernel that was
// started by kexec finds the bus as its predecessor left it. Monitor pages, which
// the message names, are not used: no offer has a monitor, so that guests signal
// with the hypercall always.
func (s *Server) initiateContact(m []byte) {
	c := contact{version: field(m, 8), sint: MessageSINT}
	if c.version >= version30 {
		vp := field(m, 12)
		c.failed = vp >= uint32(s.vps)
		if !c.failed {
			c.vp = int(vp)
		}
	}
	if c.version >= version50 {
		target := field(m, 16)
		c.sint = int(target & contactSINTMask)
		if c.sint != MessageSINT || target>>contactVTLShift&contactSINTMask != 0 {
			// Another VTL, or a second client beside the first: the connection
			// there is stays as it is.
			s.n.versions.Add(1)
			s.versionResponse(c, false)
			return
		}
	}
	s.disconnect(func() { s.connect(c) })
}

// connect answers a contact, once the older connection is gone.
func (s *Server) connect(c contact) {
	if c.failed || !slices.Contains(versions, c.version) {
		s.n.versions.Add(1)
		s.versionResponse(c, false)
		return
	}
	s.state, s.version, s.vp, s.offered = connected, c.version, c.vp, false
	s.versionResponse(c, true)
}

// versionResponse tells whether a version is spoken. From version 5.0 on the answer
// names the connection that messages are to be posted to.
func (s *Server) versionResponse(c contact, ok bool) {
	if c.sint >= synicSINTs {
		return
	}
	m := message(msgVersionResponse)
	if ok {
		m[8] = versionSupported
		answer := c.version
		if c.version >= version50 {
			answer = connectionNew
		}
		binary.LittleEndian.PutUint32(m[12:], answer)
	}
	s.out.send(c.vp, c.sint, m[:sizeVersionResponse], 2*s.maxChannels+2*spareMessages)
}

// unloaded answers UNLOAD. A guest that crashes waits for it before it starts a
// kernel to dump memory.
func (s *Server) unloaded() {
	m := message(msgUnloadResponse)
	s.reply(m[:sizeHeader])
}

// disconnect closes every channel and then calls a function; a later disconnect
// replaces the function of an earlier one.
func (s *Server) disconnect(then func()) {
	s.state, s.then = leaving, then
	for _, c := range s.channels {
		c.reopen = nil
		s.beginClose(c)
	}
	s.settle()
}

// settle ends leaving once all channels are closed.
func (s *Server) settle() {
	if s.state != leaving || slices.ContainsFunc(s.channels, func(c *Channel) bool { return c.state != stateClosed }) {
		return
	}
	for _, c := range slices.Clone(s.channels) {
		s.release(c)
	}
	s.state, s.offered = disconnected, false
	then := s.then
	s.then = nil
	then()
	s.idle.Broadcast()
}

// requestOffers tells the guest of all channels.
func (s *Server) requestOffers() {
	if s.offered {
		s.n.unexpected.Add(1)
		return
	}
	s.offered = true
	for _, c := range s.channels {
		s.announce(c)
	}
	m := message(msgAllOffersDelivered)
	s.reply(m[:sizeHeader])
}

// tlConnect refuses a connection to a socket of the host (Hyper-V sockets): there
// are none.
func (s *Server) tlConnect(m []byte) {
	s.n.unexpected.Add(1)
	if s.version < version41 {
		return
	}
	r := message(msgTLConnectResult)
	copy(r[8:], m[8:sizeTLConnect]) // endpoint and service
	binary.LittleEndian.PutUint32(r[40:], statusConnectionRefused)
	s.reply(r[:sizeTLConnectResult])
}
