package scsi

import "keel/translate/blk"

// Bytes of the parameter list's parts (SBC-3, tables 87 and 88).
const (
	unmapHeader     = 8
	unmapDescriptor = 16
)

// runUnmap answers UNMAP (SBC-3, 5.25). Its parameter list is copied once and
// checked before anything is discarded.
func runUnmap(c *Command) {
	i := c.u.info()
	if c.CDB[1]&1 != 0 { // ANCHOR
		c.fail(badCDB(1, 0))
		return
	}
	if s, ok := c.u.ready(); !ok {
		c.fail(s)
		return
	}
	if s, no := c.u.protected(&i); no {
		c.fail(s)
		return
	}
	size := uint64(be.Uint16(c.CDB[7:]))
	switch {
	case size == 0:
		c.good()
		return
	case size < unmapHeader:
		c.fail(illegal(ascParamListLength))
		return
	case size > c.out:
		c.overrun()
		return
	}
	c.left = size
	// Its blocks are not known yet: it takes turns with COMPARE AND WRITE anywhere.
	c.launch(0, ^uint64(0), true, stepParseUnmap)
}

// stepParseUnmap reads the parameter list (SBC-3, table 87).
func stepParseUnmap(c *Command) bool {
	size := min(c.left, unmapHeader+maxRanges*unmapDescriptor)
	list := c.buf.data[:size]
	gather(list, c.Out, 0)
	c.moved = c.left
	i := c.u.info()
	l := c.u.limits(&i)
	n := uint64(be.Uint16(list[2:])) / unmapDescriptor
	if n > uint64(l.ranges) {
		c.fail(badParam(2, 7))
		return false
	}
	// Descriptors that the list is too short for do not exist (SBC-3, 5.25.2).
	n = min(n, (size-unmapHeader)/unmapDescriptor)
	var total uint64
	kept := c.buf.ranges[:0]
	for k := range n {
		at := unmapHeader + k*unmapDescriptor
		r := blk.Range{LBA: be.Uint64(list[at:]), Blocks: uint64(be.Uint32(list[at+8:]))}
		if !i.Holds(r.LBA, r.Blocks) {
			c.fail(illegal(ascBadLBA))
			return false
		}
		total += r.Blocks
		if r.Blocks != 0 {
			kept = append(kept, r)
		}
	}
	if total > uint64(l.unmap) {
		c.fail(badParam(unmapHeader, 7))
		return false
	}
	c.at, c.left = 0, uint64(len(kept))
	c.step = stepUnmap
	return stepUnmap(c)
}

// stepUnmap discards as many of the ranges that are left as go into one request: a
// long range alone, piece by piece. at is the next range, left how many there are.
func stepUnmap(c *Command) bool {
	if c.left == 0 {
		c.good()
		return false
	}
	i := c.u.info()
	// limits bounds the pieces: the blocks of all ranges are not more than maxPieces
	// times the longest one.
	longest := i.MaxDiscard
	if longest == 0 {
		longest = ^uint64(0)
	}
	c.request(blk.OpDiscard, 0, 0, nil)
	ranges := c.buf.ranges[c.at : c.at+c.left]
	if r := &ranges[0]; r.Blocks > longest {
		c.buf.piece[0] = blk.Range{LBA: r.LBA, Blocks: longest}
		r.LBA += longest
		r.Blocks -= longest
		c.req.Ranges = c.buf.piece[:]
		return true
	}
	n := 0
	for n < len(ranges) && n < int(max(i.MaxRanges, 1)) && ranges[n].Blocks <= longest {
		n++
	}
	c.req.Ranges = ranges[:n]
	c.at += uint64(n)
	c.left -= uint64(n)
	return true
}
