package vmbus

import "encoding/binary"

// gpadl is a list of guest pages that the guest gave to a channel (TLFS calls it a
// guest physical address descriptor list). It is named by the guest. The server's
// lock guards it.
type gpadl struct {
	channel *Channel
	id      uint32
	count   uint16 // ranges
	want    int    // bytes of the list in all
	list    []byte // what has come so far
	ready   bool   // complete and checked
	tearing bool   // to be torn down when the channel is closed
}

// append takes the part of the list that a message brings. It returns false when
// there is none in it.
func (g *gpadl) append(part []byte) bool {
	part = part[:min(len(part), g.want-len(g.list))&^(packetUnit-1)]
	g.list = append(g.list, part...)
	return len(part) > 0
}

// pages walks the list.
func (g *gpadl) pages() Pages { return Pages{list: g.list, ranges: uint32(g.count)} }

// gpadlHeader begins a GPADL.
func (s *Server) gpadlHeader(m []byte) {
	relID, id := field(m, 8), field(m, 12)
	c := s.lookup(relID)
	if c == nil {
		s.n.unknownID.Add(1)
		s.gpadlCreated(relID, id, statusUnsuccessful)
		return
	}
	g := &gpadl{channel: c, id: id, want: int(binary.LittleEndian.Uint16(m[16:])), count: binary.LittleEndian.Uint16(m[18:])}
	switch {
	case g.count == 0, g.want%packetUnit != 0, int(g.count) > g.want/(2*packetUnit):
		// A range takes its header and at least one page number.
		s.n.malformed.Add(1)
	case c.revoked, c.gpadls[id] != nil, s.building[id] != nil:
		// Bodies name the GPADL alone, so no two may be incomplete under one name.
		s.n.unexpected.Add(1)
	case len(c.gpadls) >= maxGPADLs, s.frames+g.want/packetUnit > s.maxFrames:
		s.n.limits.Add(1)
	default:
		s.frames += g.want / packetUnit
		g.list = make([]byte, 0, g.want)
		c.gpadls[id] = g
		s.gpadlPart(g, m[sizeGPADLHeader:])
		return
	}
	s.gpadlCreated(relID, id, statusUnsuccessful)
}

// gpadlBody goes on with one.
func (s *Server) gpadlBody(m []byte) {
	g := s.building[field(m, 12)]
	if g == nil {
		s.n.unknownID.Add(1)
		return
	}
	s.gpadlPart(g, m[sizeGPADLBody:])
}

// gpadlPart adds to a GPADL and completes it.
func (s *Server) gpadlPart(g *gpadl, part []byte) {
	if !g.append(part) {
		s.n.malformed.Add(1)
		s.gpadlRefuse(g)
		return
	}
	if len(g.list) < g.want {
		s.building[g.id] = g
		return
	}
	delete(s.building, g.id)
	if !s.gpadlCheck(g) {
		s.n.badGPADL.Add(1)
		s.gpadlRefuse(g)
		return
	}
	g.ready = true
	s.gpadlCreated(g.channel.relID, g.id, statusSuccess)
}

// gpadlCheck tells whether every page is guest memory.
func (s *Server) gpadlCheck(g *gpadl) bool {
	it, some := g.pages(), false
	for it.Next() {
		if _, err := s.memory.Slice(it.GPA, it.Length); err != nil {
			return false
		}
		some = true
	}
	return some && it.Valid()
}

func (s *Server) gpadlRefuse(g *gpadl) {
	s.gpadlFree(g)
	s.gpadlCreated(g.channel.relID, g.id, statusUnsuccessful)
}

// gpadlFree forgets a GPADL.
func (s *Server) gpadlFree(g *gpadl) {
	if s.building[g.id] == g {
		delete(s.building, g.id)
	}
	delete(g.channel.gpadls, g.id)
	s.frames -= g.want / packetUnit
}

// gpadlTeardown takes a GPADL back. The guest may use the pages for something else
// as soon as it has the answer, so the answer waits until the device is done with
// the ring.
func (s *Server) gpadlTeardown(m []byte) {
	c := s.lookup(field(m, 8))
	if c == nil {
		s.n.unknownID.Add(1)
		return
	}
	g := c.gpadls[field(m, 12)]
	switch {
	case g == nil:
		s.n.unknownID.Add(1)
	case !g.ready, g.tearing:
		s.n.unexpected.Add(1)
	case c.ring == g && c.state != stateClosed:
		g.tearing = true
	default:
		s.gpadlDone(g)
	}
}

// gpadlDone frees a GPADL and says so.
func (s *Server) gpadlDone(g *gpadl) {
	s.gpadlFree(g)
	m := message(msgGPADLTorndown)
	binary.LittleEndian.PutUint32(m[8:], g.id)
	s.reply(m[:sizeGPADLTorndown])
}

func (s *Server) gpadlCreated(relID, id, status uint32) {
	m := message(msgGPADLCreated)
	binary.LittleEndian.PutUint32(m[8:], relID)
	binary.LittleEndian.PutUint32(m[12:], id)
	binary.LittleEndian.PutUint32(m[16:], status)
	s.reply(m[:sizeGPADLCreated])
}
