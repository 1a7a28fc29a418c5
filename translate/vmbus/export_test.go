package vmbus

import "fmt"

// Check returns what is wrong with the server's books.
func (s *Server) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	frames := 0
	for i := range s.byRelID {
		if c := s.byRelID[i].Load(); c != nil && int(c.relID) != i {
			return fmt.Errorf("channel %d is known as %d", c.relID, i)
		}
	}
	for _, c := range s.channels {
		if c.relID != 0 && s.byRelID[c.relID].Load() != c {
			return fmt.Errorf("channel %d is not in the table", c.relID)
		}
		if c.relID == 0 && (len(c.gpadls) != 0 || c.state != stateClosed) {
			return fmt.Errorf("a channel without a number has %d GPADLs and state %d", len(c.gpadls), c.state)
		}
		if len(c.gpadls) > maxGPADLs {
			return fmt.Errorf("%d GPADLs", len(c.gpadls))
		}
		for id, g := range c.gpadls {
			if g.id != id || g.channel != c || cap(g.list) != g.want || g.ready != (s.building[id] != g) {
				return fmt.Errorf("GPADL %#x", id)
			}
			frames += g.want / packetUnit
		}
	}
	if frames != s.frames || frames > s.maxFrames {
		return fmt.Errorf("%d page numbers, %d were counted, %d are allowed", frames, s.frames, s.maxFrames)
	}
	if len(s.kicks) != 0 {
		return fmt.Errorf("%d channels wait for service", len(s.kicks))
	}
	return nil
}

// Idle tells whether the guest is gone without a trace.
func (s *Server) Idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.byRelID {
		if s.byRelID[i].Load() != nil {
			return false
		}
	}
	return s.state == disconnected && s.frames == 0 && len(s.building) == 0
}
