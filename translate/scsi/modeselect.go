package scsi

// maxModeList bounds the parameter list of MODE SELECT: more than all pages take.
const maxModeList = 512

// runModeSelect answers MODE SELECT(6) and (10) (SPC-4, 6.11 and 6.12). All pages
// are checked before one takes effect.
func runModeSelect(c *Command) {
	long := c.CDB[0] == opModeSelect10
	size, field := uint32(c.CDB[4]), uint16(4)
	header := 4
	if long {
		size, field = uint32(be.Uint16(c.CDB[7:])), 7
		header = 8
	}
	switch {
	case c.CDB[1]&0x10 == 0: // PF: pages of another format are unknown
		c.fail(badCDB(1, 4))
		return
	case c.CDB[1]&0x01 != 0: // SP: nothing is saved
		c.fail(badCDB(1, 0))
		return
	case size == 0:
		c.good()
		return
	case size > maxModeList:
		c.fail(badCDB(field, 7))
		return
	case size < uint32(header):
		c.fail(illegal(ascParamListLength))
		return
	}
	// The guest's memory is copied once; nothing of it is read again.
	var room [maxModeList]byte
	b := room[:size]
	if !c.parameters(b) {
		return
	}
	at, s, ok := c.u.checkHeader(b, long)
	if !ok {
		c.fail(s)
		return
	}
	modes, s, ok := c.u.checkPages(b, at)
	if !ok {
		c.fail(s)
		return
	}
	c.setModes(modes)
}

// checkHeader reads header and block descriptor and returns where the pages begin.
// The format of the medium cannot be changed.
func (u *unit) checkHeader(b []byte, long bool) (at int, s sense, ok bool) {
	at = 4
	descriptor := int(b[3])
	if long {
		at, descriptor = 8, int(be.Uint16(b[6:]))
	}
	wide := long && b[4]&1 != 0
	switch {
	case descriptor == 0:
		return at, s, true
	case at+descriptor > len(b):
		return 0, illegal(ascParamListLength), false
	case !wide && descriptor != 8, wide && descriptor != 16:
		return 0, badParam(uint16(at-1), 7), false
	}
	// Number of blocks: zero and all ones mean as it is.
	i := u.info()
	d := b[at : at+descriptor]
	blocks, size, none := uint64(be.Uint32(d)), be.Uint32(d[4:])&0xffffff, uint64(1<<32-1)
	if wide {
		blocks, size, none = be.Uint64(d), be.Uint32(d[12:]), 1<<64-1
	}
	if blocks != 0 && blocks != none && blocks != u.blocks(&i) {
		return 0, badParam(uint16(at), 7), false
	}
	if size != u.block {
		return 0, badParam(uint16(at+descriptor-3), 7), false
	}
	return at + descriptor, s, true
}

// checkPages reads the pages and returns the modes that they ask for. What cannot
// be changed must be as it is (SPC-4, 6.11).
func (u *unit) checkPages(b []byte, at int) (modes uint32, s sense, ok bool) {
	modes = u.modes.Load()
	for at < len(b) {
		p := findPage(b[at:], u.kind)
		if p == nil {
			return 0, badParam(uint16(at), 5), false
		}
		if at+p.size > len(b) {
			return 0, illegal(ascParamListLength), false
		}
		// Longer than any page of the table, so that append stays within.
		var current, mask [64]byte
		p.append(current[:0], u, controlCurrent)
		p.append(mask[:0], u, controlChangeable)
		page := b[at : at+p.size]
		header := 2
		if p.subpage != 0 {
			header = 4
		}
		if p.subpage == 0 && int(page[1]) != p.size-2 || p.subpage != 0 && int(be.Uint16(page[2:])) != p.size-4 {
			return 0, badParam(uint16(at+1), 7), false
		}
		for j := header; j < p.size; j++ {
			if (page[j]^current[j])&^mask[j] != 0 {
				return 0, badParam(uint16(at+j), -1), false
			}
		}
		modes = p.modes(page, modes)
		at += p.size
	}
	return modes, s, true
}

// findPage returns the page that b begins with. The PS bit is reserved here.
func findPage(b []byte, kind Kind) *modePage {
	if len(b) < 2 {
		return nil
	}
	var subpage uint8
	if b[0]&0x40 != 0 {
		subpage = b[1]
	}
	for i := range modePages {
		p := &modePages[i]
		if p.kinds>>kind&1 != 0 && p.code == b[0]&pageAll && p.subpage == subpage && (subpage == 0) == (b[0]&0x40 == 0) {
			return p
		}
	}
	return nil
}

// modes returns the modes that the page sets.
func (p *modePage) modes(b []byte, modes uint32) uint32 {
	set := func(mode uint32, on bool) {
		modes &^= mode
		if on {
			modes |= mode
		}
	}
	switch {
	case p.code == pageCaching:
		set(modeWCE, b[2]&cachingWCE != 0)
	case p.code == pageControl && p.subpage == 0:
		set(modeDSense, b[2]&controlDSense != 0)
		set(modeSWP, b[4]&controlSWP != 0)
	}
	return modes
}

// setModes makes the modes current and tells the other nexuses. When the cache is
// turned off, what it holds goes to the medium.
func (c *Command) setModes(modes uint32) {
	u := c.u
	old := u.modes.Swap(modes)
	if old == modes {
		c.good()
		return
	}
	u.attendOthers(int(c.Initiator), attentionModes)
	if old&^modes&modeWCE != 0 {
		c.launch(0, 0, false, stepFlush)
		return
	}
	c.good()
}
