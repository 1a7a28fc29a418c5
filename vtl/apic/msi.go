package apic

import "keel/vtl/irq"

// Fields of an MSI address (SDM vol. 3, "Message Address Register Format").
// Bits 5 to 11 extend the destination to 15 bits; hardware without interrupt
// remapping reserves them, so zero means what it always meant.
const (
	msiWindow      = 0xFEE
	msiLogical     = 1 << 2
	msiRedirect    = 1 << 3
	msiDestShift   = 12
	msiExtendShift = 5
	msiExtend      = 0x7F

	msiAssert = 1 << 14
	msiLevel  = 1 << 15
)

// SignalMSI delivers a message-signalled interrupt; a write outside the window
// is counted and ignored. It implements irq.MSITarget.
func (s *Set) SignalMSI(address uint64, data uint32) {
	level := data&msiLevel != 0
	switch {
	case address>>20 != msiWindow:
		s.malformed.Add(1)
		return
	case level && data&msiAssert == 0:
		return // de-assertion has no meaning on this fabric
	}
	m := Message{
		Dest:    wideDest(uint32(address>>msiDestShift), uint32(address>>msiExtendShift&msiExtend)),
		Logical: address&msiLogical != 0,
		Level:   level,
		Mode:    DeliveryMode(data >> 8 & 7),
		Vector:  irq.Vector(data),
	}
	if m.Mode == Fixed && address&msiRedirect != 0 {
		m.Mode = LowestPriority
	}
	if m.Mode == StartUp { // reserved in messages of devices
		s.malformed.Add(1)
		return
	}
	s.Deliver(m)
}

// wideDest joins an 8-bit destination and its seven extension bits, and
// translates the 8-bit broadcast.
func wideDest(dest, extension uint32) uint32 {
	dest = dest&0xFF | extension<<8
	if dest == 0xFF {
		return Broadcast
	}
	return dest
}
