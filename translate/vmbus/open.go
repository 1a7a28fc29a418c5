package vmbus

import (
	"encoding/binary"
	"slices"

	"keel/hcl/sys"
)

// openChannel opens a channel over the rings in a GPADL. The answer follows when
// the device has agreed.
func (s *Server) openChannel(m []byte) {
	c := s.lookup(field(m, 8))
	switch {
	case c == nil:
		s.n.unknownID.Add(1)
	case c.revoked:
		// The guest has not seen the rescind yet.
		s.n.unexpected.Add(1)
	case c.state == stateClosed:
		s.beginOpen(c, m)
	case c.state == stateClosing && c.reopen == nil && !c.released:
		// CLOSE_CHANNEL has no answer, so the guest cannot know that the device is
		// still busy.
		c.reopen = slices.Clone(m[:sizeOpen])
	default:
		s.n.unexpected.Add(1)
	}
}

// beginOpen prepares the rings and lets the device open the channel.
func (s *Server) beginOpen(c *Channel, m []byte) {
	c.openID = field(m, 12)
	g := c.gpadls[field(m, 16)]
	vp, split := field(m, 20), field(m, 24)
	if g == nil || !g.ready || g.tearing || vp != noVP && vp >= uint32(s.vps) || !s.makeRings(c, g, split) {
		s.n.badOpen.Add(1)
		s.openResult(c, statusUnsuccessful)
		return
	}
	c.state, c.ring = stateOpening, g
	c.target.Store(vp)
	c.opening.Store(true)
	s.kicks = append(s.kicks, c)
}

// makeRings lays the rings over a GPADL: what the guest writes first, then, from
// page split on, what the guest reads. Each has a control page and data.
func (s *Server) makeRings(c *Channel, g *gpadl, split uint32) bool {
	pages := s.ringPages(g)
	if split < 2 || uint64(split)+2 > uint64(len(pages)) {
		return false
	}
	in, out := sys.Words(pages[0]), sys.Words(pages[split])
	if in == nil || out == nil {
		return false
	}
	c.in = inRing{ring: makeRing(in, pages[:split])}
	return c.in.open() && c.out.open(makeRing(out, pages[split:]))
}

// ringPages returns the pages of a GPADL that is one range of whole pages.
func (s *Server) ringPages(g *gpadl) [][]byte {
	if g.count != 1 || field(g.list, 4) != 0 || field(g.list, 0)%pageSize != 0 {
		return nil
	}
	pages := make([][]byte, 0, len(g.list)/packetUnit)
	it := g.pages()
	for it.Next() {
		run, err := s.memory.Slice(it.GPA, it.Length)
		if err != nil {
			return nil
		}
		for page := range slices.Chunk(run, pageSize) {
			pages = append(pages, page)
		}
	}
	return pages
}

// opened is called when the device has opened a channel.
func (s *Server) opened(c *Channel) {
	s.mu.Lock()
	if c.state == stateOpening {
		c.state = stateOpen
		s.openResult(c, statusSuccess)
	}
	s.unlock()
}

// openFailed is called when the device would not.
func (s *Server) openFailed(c *Channel) {
	s.n.badOpen.Add(1)
	s.mu.Lock()
	if c.state == stateOpening {
		s.openResult(c, statusUnsuccessful)
	}
	s.setClosed(c)
	s.unlock()
}

func (s *Server) openResult(c *Channel, status uint32) {
	m := message(msgOpenResult)
	binary.LittleEndian.PutUint32(m[8:], c.relID)
	binary.LittleEndian.PutUint32(m[12:], c.openID)
	binary.LittleEndian.PutUint32(m[16:], status)
	s.reply(m[:sizeOpenResult])
}

// closeChannel closes one. There is no answer.
func (s *Server) closeChannel(m []byte) {
	c := s.lookup(field(m, 8))
	switch {
	case c == nil:
		s.n.unknownID.Add(1)
	case c.reopen != nil:
		c.reopen = nil
	case c.state == stateOpen || c.state == stateOpening:
		s.beginClose(c)
	case !c.revoked:
		s.n.unexpected.Add(1)
	}
}

// beginClose lets the device close a channel that is open or opening.
func (s *Server) beginClose(c *Channel) {
	if c.state != stateOpen && c.state != stateOpening {
		return
	}
	c.state = stateClosing
	c.closing.Store(true)
	s.kicks = append(s.kicks, c)
}

// Closed tells the server that the device uses no guest memory through the channel
// any more: the answer to Device.Close.
func (c *Channel) Closed() {
	s := c.server
	s.mu.Lock()
	if c.state == stateClosing {
		s.setClosed(c)
	}
	s.unlock()
}

// setClosed does what waited for a channel to be closed.
func (s *Server) setClosed(c *Channel) {
	c.out.close()
	c.state = stateClosed
	c.target.Store(noVP)
	c.closing.Store(false)
	if s.state == leaving {
		s.settle()
		return
	}
	c.ring = nil
	for _, g := range c.gpadls {
		if g.tearing {
			s.gpadlDone(g)
		}
	}
	switch {
	case c.released:
		s.release(c)
	case c.reopen != nil:
		m := c.reopen
		c.reopen = nil
		s.beginOpen(c, m)
	}
}

// modifyChannel sends the interrupts of a channel to another VP. When the answer is
// out no more arrive on the old one.
func (s *Server) modifyChannel(m []byte) {
	relID, vp := field(m, 8), field(m, 12)
	c := s.lookup(relID)
	status := uint32(statusUnsuccessful)
	switch {
	case s.version < version41:
		s.n.unexpected.Add(1)
		return
	case c == nil:
		s.n.unknownID.Add(1)
	case vp >= uint32(s.vps):
		s.n.malformed.Add(1)
	case c.state != stateOpen || c.target.Load() == noVP:
		s.n.unexpected.Add(1)
	default:
		c.retarget(vp)
		status = statusSuccess
	}
	if s.version < version53 {
		return
	}
	r := message(msgModifyResponse)
	binary.LittleEndian.PutUint32(r[8:], relID)
	binary.LittleEndian.PutUint32(r[12:], status)
	s.reply(r[:sizeModifyResponse])
}
