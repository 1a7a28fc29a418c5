package scsi

// Media events of GET EVENT STATUS NOTIFICATION (MMC-6, table 284).
const (
	mediaNoChange = 0
	mediaNew      = 2
	mediaRemoved  = 3
)

// Classes of events.
const (
	classMedia = 4
	noEvent    = 0x80 // NEA
)

// Profiles of drives (MMC-6, table 90), and how many blocks go on a CD of 80
// minutes: images that are longer are DVDs.
const (
	profileNone   = 0x0000
	profileCDROM  = 0x0008
	profileDVDROM = 0x0010
	cdBlocks      = 80 * 60 * 75
)

// mediumChanged keeps an event for the guest and sets the unit attention.
func (u *unit) mediumChanged(event uint32) {
	u.media.Store(event)
	if event == mediaNew {
		u.attendOthers(-1, attentionMedium)
	}
}

// profile returns the current profile.
func (u *unit) profile() uint16 {
	if _, ok := u.ready(); !ok {
		return profileNone
	}
	if i := u.info(); u.blocks(&i) <= cdBlocks {
		return profileCDROM
	}
	return profileDVDROM
}

// runGetEventStatus answers GET EVENT STATUS NOTIFICATION (MMC-6, 6.6), polled.
func runGetEventStatus(c *Command) {
	if c.CDB[1]&1 == 0 { // asynchronous
		c.fail(badCDB(1, 0))
		return
	}
	allocation := uint32(be.Uint16(c.CDB[7:]))
	if c.CDB[4]&(1<<classMedia) == 0 {
		c.reply([]byte{0, 2, noEvent, 1 << classMedia}, allocation)
		return
	}
	u := c.u
	event := uint32(mediaNoChange)
	if allocation > 4 { // else the event would be lost
		event = u.media.Swap(mediaNoChange)
	}
	var status uint8
	switch {
	case u.ejected.Load():
		status = 0x01
	case !u.vanished.Load():
		status = 0x02
	}
	c.reply([]byte{0, 6, classMedia, 1 << classMedia, uint8(event), status, 0, 0}, allocation)
}

// What GET CONFIGURATION returns (MMC-6, 6.5).
const (
	featuresAll     = 0
	featuresCurrent = 1
	featuresOne     = 2
)

// features lists the features (MMC-6, clause 5): code, version byte with
// persistent and current bits, data.
func (u *unit) features() []feature {
	profile := u.profile()
	cd, dvd, present := bit(profile == profileCDROM), bit(profile == profileDVDROM), bit(profile != profileNone)
	return []feature{
		{0x0000, 0x03, []byte{0, profileDVDROM, dvd, 0, 0, profileCDROM, cd, 0}},
		{0x0001, 0x0b, []byte{0, 0, 0, 1, 1, 0, 0, 0}},    // core: SCSI, DBE
		{0x0002, 0x07, []byte{0, 0, 0, 0}},                // morphing
		{0x0003, 0x03, []byte{0x29, 0, 0, 0}},             // removable medium: tray, eject, lock
		{0x0010, present, []byte{0, 0, 8, 0, 0, 1, 0, 0}}, // random readable
		{0x001e, 0x08 | cd, []byte{0, 0, 0, 0}},           // CD read
		{0x001f, dvd, nil},                                // DVD read
	}
}

type feature struct {
	code  uint16
	flags uint8
	data  []byte
}

func bit(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}

func runGetConfiguration(c *Command) {
	how, from := c.CDB[1]&3, be.Uint16(c.CDB[2:])
	if how > featuresOne {
		c.fail(badCDB(1, 1))
		return
	}
	b := make([]byte, 8, 96)
	be.PutUint16(b[6:], c.u.profile())
	for _, f := range c.u.features() {
		switch {
		case how == featuresOne && f.code != from, how != featuresOne && f.code < from:
			continue
		case how == featuresCurrent && f.flags&1 == 0:
			continue
		}
		b = be.AppendUint16(b, f.code)
		b = append(b, f.flags, uint8(len(f.data)))
		b = append(b, f.data...)
	}
	be.PutUint32(b, uint32(len(b)-4))
	c.reply(b, uint32(be.Uint16(c.CDB[7:])))
}

// runReadDiscInformation answers READ DISC INFORMATION (MMC-6, 6.22): one complete
// session of one track.
func runReadDiscInformation(c *Command) {
	if c.CDB[1]&7 != 0 { // data types other than the standard one
		c.fail(badCDB(1, 2))
		return
	}
	if s, ok := c.u.ready(); !ok {
		c.fail(s)
		return
	}
	var b [34]byte
	be.PutUint16(b[:], uint16(len(b)-2))
	b[2] = 0x0e // last session and disc are complete
	b[3], b[4], b[5], b[6] = 1, 1, 1, 1
	b[7] = 0x20 // URU
	for i := 16; i < 24; i++ {
		b[i] = 0xff // no lead-in or lead-out can be added
	}
	c.reply(b[:], uint32(be.Uint16(c.CDB[7:])))
}

// runMechanismStatus answers MECHANISM STATUS (MMC-6, 6.10): a drive without a
// changer.
func runMechanismStatus(c *Command) {
	var b [8]byte
	if c.u.ejected.Load() {
		b[1] = 0x10 // door open
	}
	c.reply(b[:], uint32(be.Uint16(c.CDB[8:])))
}

// fillCapabilities writes the CD/DVD capabilities page (MMC-6, annex D; MMC-3,
// 6.3.11).
func fillCapabilities(b []byte, u *unit, _ uint32) {
	b[2] = 0x08 // reads DVD-ROM
	b[4] = 0x40 // several sessions
	b[6] = 0x29 // tray, eject, lock
	if u.locked.Load() != 0 {
		b[6] |= 0x02
	}
	const speed = 16 * 1385 // kB/s, 16x DVD
	be.PutUint16(b[8:], speed)
	be.PutUint16(b[12:], bufferBytes>>10)
	be.PutUint16(b[14:], speed)
}
