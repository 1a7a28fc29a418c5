package apic

// The published part of a local APIC's identity, one word so that senders see
// one state of it: the xAPIC logical ID in bits 0 to 7, the destination format
// in bits 8 to 11, and these flags.
const (
	identEnabled  = 1 << 12 // IA32_APIC_BASE enables it
	identX2       = 1 << 13 // in x2APIC mode
	identSoftware = 1 << 14 // the SVR enables it

	identFormatShift = 8
	formatFlat       = 0xF
	formatCluster    = 0
)

// publish makes the current registers the ones that senders match against.
func (l *Local) publish() {
	v := l.ldr>>24 | l.dfr>>28<<identFormatShift
	if l.base&baseEnable != 0 {
		v |= identEnabled
	}
	if l.base&baseX2 != 0 {
		v |= identX2
	}
	if l.svr&svrEnable != 0 {
		v |= identSoftware
	}
	l.ident.Store(v)
}

// enabled reports whether the local APIC takes part in the fabric at all.
func (l *Local) enabled() bool { return l.ident.Load()&identEnabled != 0 }

// accepting reports whether it takes vectors: a local APIC that software
// disabled still responds to INIT, NMI, SMI and start-up (SDM vol. 3, "Local
// APIC State After It Has Been Software Disabled").
func (l *Local) accepting() bool {
	return l.ident.Load()&(identEnabled|identSoftware) == identEnabled|identSoftware
}

// matches reports whether the local APIC is among the destinations of a
// message. Any goroutine may call it.
func (l *Local) matches(dest uint32, logical bool) bool {
	ident := l.ident.Load()
	switch {
	case ident&identEnabled == 0:
		return false
	case dest == Broadcast:
		return true
	case !logical:
		return dest == uint32(l.id)
	case ident&identX2 != 0:
		own := l.x2LDR()
		return dest>>16 == own>>16 && dest&own&0xFFFF != 0
	case dest > 0xFF:
		return false
	}
	own := ident & 0xFF
	switch ident >> identFormatShift & 0xF {
	case formatFlat:
		return own&dest != 0
	case formatCluster:
		return own>>4 == dest>>4 && own&dest&0xF != 0
	}
	return false
}

// x2LDR derives the x2APIC logical ID: the cluster in the upper half, one bit
// of sixteen in the lower (SDM vol. 3, "Logical Destination Mode in x2APIC
// Mode").
func (l *Local) x2LDR() uint32 {
	return uint32(l.id)>>4<<16 | 1<<(uint32(l.id)&0xF)
}
