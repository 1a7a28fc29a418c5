package scsi

// Page control of MODE SENSE (SPC-4, table 197).
const (
	controlCurrent = iota
	controlChangeable
	controlDefault
	controlSaved
)

// modePage is a mode page of a kind of logical unit. fill writes its data behind
// the header, for the mode bits that are given.
type modePage struct {
	code, subpage uint8
	kinds         uint8
	size          int // of the page with its header
	fill          func(b []byte, u *unit, modes uint32)
}

// modePages is the table of pages, in the order in which page 3Fh returns them.
var modePages = []modePage{
	{code: pageErrorRecovery, kinds: onMedia, size: 12, fill: func([]byte, *unit, uint32) {}},
	{code: pageCaching, kinds: onDisk, size: 20, fill: fillCaching},
	{code: pageControl, kinds: onMedia, size: 12, fill: fillControl},
	{code: pageControl, subpage: subpageExtension, kinds: onMedia, size: 32, fill: func(b []byte, _ *unit, _ uint32) { b[6] = SenseSize }},
	{code: pageExceptions, kinds: onMedia, size: 12, fill: func(b []byte, _ *unit, _ uint32) { b[2] = 0x08 }}, // DEXCPT
	{code: pageCapabilities, kinds: onDVD, size: 22, fill: fillCapabilities},
}

// fillCaching writes the caching page (SBC-3, 6.4.5).
func fillCaching(b []byte, _ *unit, modes uint32) {
	if modes&modeWCE != 0 {
		b[2] = cachingWCE
	}
}

// fillControl writes the control page (SPC-4, 7.5.8). Commands are not kept in
// order.
func fillControl(b []byte, _ *unit, modes uint32) {
	if modes&modeDSense != 0 {
		b[2] |= controlDSense
	}
	b[3] = 0x10 // QUEUE ALGORITHM MODIFIER: unrestricted reordering
	if modes&modeSWP != 0 {
		b[4] |= controlSWP
	}
	be.PutUint16(b[8:], 0xffff) // BUSY TIMEOUT PERIOD: unlimited
}

// append writes the page as a page control asks for it.
func (p *modePage) append(b []byte, u *unit, control uint8) []byte {
	at := len(b)
	for range p.size {
		b = append(b, 0)
	}
	page := b[at:]
	switch control {
	case controlChangeable:
		p.mask(page, u)
	case controlDefault:
		p.fill(page, u, u.defaultModes())
	default:
		p.fill(page, u, u.modes.Load())
	}
	page[0] = p.code
	if p.subpage == 0 {
		page[1] = uint8(p.size - 2)
	} else {
		page[0] |= 0x40 // SPF
		page[1] = p.subpage
		be.PutUint16(page[2:], uint16(p.size-4))
	}
	return b
}

// mask writes the bits that MODE SELECT may change.
func (p *modePage) mask(b []byte, u *unit) {
	switch {
	case p.code == pageCaching && u.info().Volatile:
		b[2] = cachingWCE
	case p.code == pageControl && p.subpage == 0:
		b[2] = controlDSense
		if u.kind == kindDisk {
			b[4] = controlSWP
		}
	}
}

func (u *unit) defaultModes() uint32 {
	if u.info().Volatile {
		return modeWCE
	}
	return 0
}

// wanted tells whether MODE SENSE asks for the page.
func (p *modePage) wanted(code, subpage uint8, kind Kind) bool {
	return p.kinds>>kind&1 != 0 && (code == p.code || code == pageAll) && (subpage == p.subpage || subpage == subpageAll)
}

// runModeSense answers MODE SENSE(6) and (10) (SPC-4, 6.13 and 6.14).
func runModeSense(c *Command) {
	u := c.u
	long := c.CDB[0] == opModeSense10
	control, code, subpage := c.CDB[2]>>pageControlShift, c.CDB[2]&pageAll, c.CDB[3]
	if control == controlSaved {
		c.fail(illegal(ascNoSaving))
		return
	}
	i := u.info()
	header := 4
	allocation := uint32(c.CDB[4])
	if long {
		header, allocation = 8, uint32(be.Uint16(c.CDB[7:]))
	}
	b := make([]byte, header, 192)
	if u.kind == kindDisk && c.CDB[1]&0x08 == 0 { // DBD
		b = u.appendBlockDescriptor(b, long && c.CDB[1]&0x10 != 0)
	}
	descriptor := uint16(len(b) - header)
	var specific uint8
	if u.kind == kindDisk {
		specific = deviceDPOFUA
		if _, no := u.protected(&i); no {
			specific |= deviceWP
		}
	}
	start := len(b)
	for n := range modePages {
		if modePages[n].wanted(code, subpage, u.kind) {
			b = modePages[n].append(b, u, control)
		}
	}
	if len(b) == start {
		if subpage != 0 && subpage != subpageAll {
			c.fail(badCDB(3, 7))
			return
		}
		c.fail(badCDB(2, 5))
		return
	}
	if long {
		be.PutUint16(b, uint16(len(b)-2))
		b[3] = specific
		if descriptor == 16 {
			b[4] = 0x01 // LONGLBA
		}
		be.PutUint16(b[6:], descriptor)
	} else {
		b[0] = uint8(len(b) - 1)
		b[2] = specific
		b[3] = uint8(descriptor)
	}
	c.reply(b, allocation)
}

// appendBlockDescriptor writes the number and the size of the blocks (SBC-3,
// 6.4.2).
func (u *unit) appendBlockDescriptor(b []byte, long bool) []byte {
	i := u.info()
	blocks := u.blocks(&i)
	if long {
		b = be.AppendUint64(b, blocks)
		b = append(b, 0, 0, 0, 0)
		return be.AppendUint32(b, u.block)
	}
	b = be.AppendUint32(b, uint32(min(blocks, 1<<32-1)))
	return be.AppendUint32(b, u.block)
}
