package scsi

// Bits of byte 4 of START STOP UNIT (SBC-3, 5.19).
const (
	startStart   = 0x01
	startLoEj    = 0x02
	startNoFlush = 0x04
)

// runStartStopUnit answers START STOP UNIT. Power conditions are not supported. A
// disk that stops is flushed first; a DVD drive opens and closes its tray.
func runStartStopUnit(c *Command) {
	u := c.u
	how := c.CDB[4]
	if how>>4 != 0 {
		c.fail(badCDB(4, 7))
		return
	}
	if u.kind == kindDVD {
		if how&startLoEj != 0 {
			c.moveTray(how&startStart == 0)
			return
		}
		c.good() // the disc spins when it is read
		return
	}
	switch {
	case how&startLoEj != 0:
		c.fail(badCDB(4, 1))
	case how&startStart != 0:
		u.stopped.Store(false)
		c.good()
	default:
		u.stopped.Store(true)
		if i := u.info(); !i.Volatile || i.ReadOnly || how&startNoFlush != 0 {
			c.good()
			return
		}
		c.launch(0, 0, false, stepFlush)
	}
}

// runPreventAllow answers PREVENT ALLOW MEDIUM REMOVAL (SBC-3, 5.8), for each
// nexus by itself. A disk takes it, and nothing comes of it.
func runPreventAllow(c *Command) {
	bit := uint32(1) << c.Initiator
	switch c.CDB[4] & 3 {
	case 0:
		c.u.locked.And(^bit)
	case 1:
		c.u.locked.Or(bit)
	default: // persistent prevention
		c.fail(badCDB(4, 1))
		return
	}
	c.good()
}

// moveTray ejects or loads the disc (MMC-6, 6.42).
func (c *Command) moveTray(open bool) {
	u := c.u
	if open && u.locked.Load() != 0 {
		c.fail(illegal(ascRemovalPrevented))
		return
	}
	if u.ejected.Swap(open) != open && !u.vanished.Load() {
		event := uint32(mediaNew)
		if open {
			event = mediaRemoved
		}
		u.mediumChanged(event)
	}
	c.good()
}
