package apic

import "keel/vtl/irq"

// DeliveryMode says what a message does to the VP that accepts it. The values
// are those of bits 8 to 10 of the ICR, of LVT entries, of MSI data and of
// IOAPIC redirection entries.
type DeliveryMode uint8

// The delivery modes; value 3 is reserved.
const (
	Fixed          DeliveryMode = 0
	LowestPriority DeliveryMode = 1
	SMI            DeliveryMode = 2
	NMI            DeliveryMode = 4
	INIT           DeliveryMode = 5
	StartUp        DeliveryMode = 6
	ExtINT         DeliveryMode = 7
)

// Broadcast is the destination that all local APICs match. Senders with 8-bit
// destinations translate FFh to it.
const Broadcast = 0xFFFFFFFF

// Message is one interrupt on its way to local APICs.
type Message struct {
	Dest    uint32 // APIC ID, logical destination or Broadcast
	Logical bool   // Dest is logical
	Level   bool   // level-triggered: its end is broadcast to the IOAPICs
	Mode    DeliveryMode
	Vector  irq.Vector
}

// Deliver carries a message to its destinations and returns how many local
// APICs accepted it.
func (s *Set) Deliver(m Message) int { return s.deliver(m, nil, false) }

// deliver carries a message that the VP of from sent, or nil for a device. The
// sender's own VP is outside the guest and needs no kick.
func (s *Set) deliver(m Message, from *Local, others bool) int {
	accepted := 0
	switch {
	case m.Mode > ExtINT || m.Mode == 3:
		s.malformed.Add(1)
		return 0
	case m.Mode == LowestPriority:
		if l := s.arbitrate(m, from, others); l != nil {
			accepted = l.receive(m, l == from)
		}
	case !m.Logical && m.Dest != Broadcast:
		for i, id := range s.ids {
			if uint32(id) == m.Dest && s.locals[i].enabled() {
				accepted += s.locals[i].receive(m, s.locals[i] == from)
			}
		}
	default:
		for _, l := range s.locals {
			if (!others || l != from) && l.matches(m.Dest, m.Logical) {
				accepted += l.receive(m, l == from)
			}
		}
	}
	if accepted == 0 {
		s.unclaimed.Add(1)
	}
	return accepted
}

// arbitrate picks the matching local APIC whose task priority class is lowest.
// Equals take turns, so that interrupts spread over idle VPs.
func (s *Set) arbitrate(m Message, from *Local, others bool) *Local {
	var best *Local
	var bestClass uint32
	n := uint32(len(s.locals))
	first := s.turn.Add(1)
	for i := range n {
		l := s.locals[(first%n+i)%n]
		if others && l == from || !l.accepting() || !l.matches(m.Dest, m.Logical) {
			continue
		}
		if class := l.tpr.Load() >> 4; best == nil || class < bestClass {
			best, bestClass = l, class
		}
	}
	return best
}

// receive takes a message that matched and returns 1, or 0 when the local APIC
// is in no state to accept it. Any goroutine may call it; own says that it is
// the VP's thread.
func (l *Local) receive(m Message, own bool) int {
	switch m.Mode {
	case Fixed, LowestPriority:
		if !l.accepting() {
			return 0
		}
		if !l.accept(m.Vector, m.Level) {
			return 1
		}
	case NMI:
		l.events.Or(eventNMI)
	case INIT:
		l.postINIT()
	case StartUp:
		l.postSIPI(m.Vector)
	case ExtINT:
		l.pins[0].Or(pinExtINT)
	case SMI:
		l.set.smis.Add(1)
		return 1
	}
	if !own {
		l.notify()
	}
	return 1
}
