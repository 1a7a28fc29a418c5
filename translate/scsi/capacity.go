package scsi

import (
	"math/bits"

	"keel/translate/blk"
)

// runReadCapacity10 answers READ CAPACITY(10) (SBC-3, 5.15).
func runReadCapacity10(c *Command) {
	if c.CDB[8]&1 == 0 && be.Uint32(c.CDB[2:]) != 0 {
		c.fail(badCDB(2, 7))
		return
	}
	i, ok := c.sized()
	if !ok {
		return
	}
	u := c.u
	last := u.blocks(&i) - 1
	var b [8]byte
	be.PutUint32(b[:], uint32(min(last, 1<<32-1)))
	be.PutUint32(b[4:], u.block)
	c.reply(b[:], uint32(len(b)))
}

// sized describes a disk that has blocks, or ends the command.
func (c *Command) sized() (i blk.Info, ok bool) {
	s, ok := c.u.ready()
	if ok {
		i = c.u.info()
		if ok = c.u.blocks(&i) != 0; !ok {
			s = sense{key: keyNotReady, code: ascNoMedium}
		}
	}
	if !ok {
		c.fail(s)
	}
	return i, ok
}

// runReadCapacity16 answers READ CAPACITY(16) (SBC-3, 5.16).
func runReadCapacity16(c *Command) {
	if c.CDB[14]&1 == 0 && be.Uint64(c.CDB[2:]) != 0 {
		c.fail(badCDB(2, 7))
		return
	}
	i, ok := c.sized()
	if !ok {
		return
	}
	u := c.u
	var b [32]byte
	be.PutUint64(b[:], u.blocks(&i)-1)
	be.PutUint32(b[8:], u.block)
	b[13] = uint8(bits.Len32(max(i.PhysicalSize/u.block, 1))-1) & 0x0f // per physical block, as exponent
	if i.Discard {
		b[14] = 0x80 // LBPME
		if i.DiscardZeroes {
			b[14] |= 0x40 // LBPRZ
		}
	}
	c.reply(b[:], be.Uint32(c.CDB[10:]))
}

// What REPORT LUNS selects (SPC-4, table 301).
const (
	selectAddressed = 0x00 // all but well known ones
	selectWellKnown = 0x01
	selectAll       = 0x02
)

// runReportLUNs answers REPORT LUNS (SPC-4, 6.33). The guest need not be told any
// more that the list has changed.
func runReportLUNs(c *Command) {
	selected := c.CDB[2]
	if selected > selectAll {
		c.fail(badCDB(2, 7))
		return
	}
	c.ctl.clearLUNs(c.Initiator)
	b := make([]byte, 8, 8+8*(MaxLUNs+1))
	if selected != selectWellKnown {
		for u := range c.ctl.each() {
			b = append(b, 0, uint8(u.lun), 0, 0, 0, 0, 0, 0) // peripheral device addressing
		}
	}
	if selected != selectAddressed {
		b = append(b, ReportLUNs>>8, ReportLUNs&0xff, 0, 0, 0, 0, 0, 0)
	}
	be.PutUint32(b, uint32(len(b)-8))
	c.reply(b, be.Uint32(c.CDB[6:]))
}
