package scsi

import "keel/translate/blk"

// runWriteSame answers WRITE SAME(10) and (16) (SBC-3, 5.44 and 5.45). Zeroes go
// down as such where the disk can; all else is written out from a buffer.
func runWriteSame(c *Command) {
	i := c.u.info()
	lba, blocks := extent(&c.CDB)
	flags := c.CDB[1]
	ndob := c.CDB[0] == opWriteSame16 && flags&cdbNDOB != 0
	if !c.access(lba, uint64(blocks), &i, true) {
		return
	}
	l := c.u.limits(&i)
	switch {
	case flags&cdbAnchor != 0: // ANC_SUP is zero
		c.fail(badCDB(1, 4))
		return
	case flags&cdbUnmap != 0 && (!i.Discard || !i.WriteZeroes):
		c.fail(badCDB(1, 3))
		return
	case flags&cdbObsolete != 0:
		c.fail(badCDB(1, 2))
		return
	case blocks == 0 || uint64(blocks) > l.same: // WSNZ is one
		c.fail(badCDB(countField(&c.CDB), 7))
		return
	case !ndob && c.out < uint64(c.u.block):
		c.overrun()
		return
	}
	c.at, c.left = lba, uint64(blocks)
	c.fua = c.u.writeThrough(&i)
	c.check = ndob // no data: fill leaves zeroes
	c.launch(lba, uint64(blocks), true, stepWriteSame)
}

// stepWriteSame looks at the block once and then sends request after request.
func stepWriteSame(c *Command) bool {
	i := c.u.info()
	if c.stage == 1 {
		if !c.fill() && i.WriteZeroes {
			c.step = stepWriteZeroes
			return stepWriteZeroes(c)
		}
	}
	if c.left == 0 {
		c.good()
		return false
	}
	n := c.chunk(&i)
	c.single[0] = blk.Segment{Data: c.buf.data[:n*uint64(c.u.block)], DMA: blk.NoDMA}
	c.request(blk.OpWrite, c.at, uint32(n), c.single[:])
	c.at += n
	c.left -= n
	return true
}

// fill fills the buffer with the guest's block, as far as it will be used, and
// tells whether a byte of it is not zero.
func (c *Command) fill() (data bool) {
	block := c.buf.data[:c.u.block]
	clear(block)
	if !c.check {
		gather(block, c.Out, 0)
		c.moved = uint64(len(block))
	}
	for _, b := range block {
		if b != 0 {
			data = true
			break
		}
	}
	// Doubling what is there fills the rest.
	all := c.buf.data[:min(c.left*uint64(c.u.block), bufferBytes)]
	for n := len(block); n < len(all); n *= 2 {
		copy(all[n:], all[:n])
	}
	return data
}

// stepWriteZeroes zeroes block after block. UNMAP leaves it to the disk whether it
// gives the space back: it reads as zeroes either way.
func stepWriteZeroes(c *Command) bool {
	if c.left == 0 {
		c.good()
		return false
	}
	n := min(c.left, 1<<31)
	i := c.u.info()
	if i.MaxZeroes != 0 {
		n = min(n, uint64(i.MaxZeroes))
	}
	c.request(blk.OpWriteZeroes, c.at, uint32(n), nil)
	c.req.Unmap = c.CDB[1]&cdbUnmap != 0
	c.at += n
	c.left -= n
	return true
}
