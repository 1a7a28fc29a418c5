package scsi

import "keel/translate/blk"

// byteCheck reads BYTCHK: without it, blocks are only read; with 01b they are
// compared with the guest's data. The rest is refused (SBC-3, table 118).
func (c *Command) byteCheck() bool {
	switch c.CDB[1] & cdbByteCheck {
	case 0x00:
		c.check = false
	case 0x02:
		c.check = true
	default:
		c.fail(badCDB(1, 2))
		return false
	}
	return true
}

// runVerify answers VERIFY(10), (12) and (16) (SBC-3, 5.27 to 5.29).
func runVerify(c *Command) {
	i := c.u.info()
	lba, blocks := extent(&c.CDB)
	if !c.access(lba, uint64(blocks), &i, false) || !c.byteCheck() || !c.bounded(blocks, &i) {
		return
	}
	switch {
	case c.check && uint64(blocks)*uint64(c.u.block) > c.out:
		c.overrun()
		return
	case blocks == 0:
		c.good()
		return
	}
	c.at, c.left = lba, uint64(blocks)
	c.launch(lba, uint64(blocks), true, stepVerify)
}

// stepVerify compares the blocks that were read and reads the next ones. moved
// counts the guest's data that was compared.
func stepVerify(c *Command) bool {
	if c.stage > 1 {
		got := c.buf.data[:uint64(c.req.Blocks/c.u.scale)*uint64(c.u.block)]
		if c.check {
			if at := differs(got, c.Out, c.moved); at >= 0 {
				c.miscompare(c.moved + uint64(at))
				return false
			}
			c.moved += uint64(len(got))
		}
	} else {
		c.moved = 0
	}
	if c.left == 0 {
		if !c.check && c.op.access == accessWrite {
			_, blocks := extent(&c.CDB) // of WRITE AND VERIFY, which moved all its data
			c.moved = uint64(blocks) * uint64(c.u.block)
		}
		c.good()
		return false
	}
	// What the disk says of its bounds may change: it is asked each time.
	i := c.u.info()
	n := c.chunk(&i)
	c.single[0] = blk.Segment{Data: c.buf.data[:n*uint64(c.u.block)], DMA: blk.NoDMA}
	c.request(blk.OpRead, c.at, uint32(n), c.single[:])
	c.at += n
	c.left -= n
	return true
}

// chunk returns how many of the blocks that are left fit into a buffer and a
// request.
func (c *Command) chunk(i *blk.Info) uint64 {
	n := min(c.left, uint64(bufferBytes/c.u.block))
	if limit := c.u.maxTransfer(i); limit != 0 {
		n = min(n, uint64(limit))
	}
	return n
}

// miscompare ends a comparison at a byte of the guest's data.
func (c *Command) miscompare(at uint64) {
	c.fail(sense{key: keyMiscompare, code: ascMiscompare, hasInfo: true, info: at})
}

// runCompareAndWrite answers COMPARE AND WRITE (SBC-3, 5.2). The data to compare
// with comes first, the data to write second. It must be exact: other commands on
// these blocks wait.
func runCompareAndWrite(c *Command) {
	i := c.u.info()
	lba, blocks := be.Uint64(c.CDB[2:]), uint64(c.CDB[13])
	if !c.access(lba, blocks, &i, true) {
		return
	}
	if blocks > uint64(c.u.limits(&i).compare) {
		c.fail(badCDB(13, 7))
		return
	}
	switch {
	case 2*blocks*uint64(c.u.block) > c.out:
		c.overrun()
		return
	case blocks == 0:
		c.good()
		return
	}
	c.at, c.left = lba, blocks
	c.fua = c.CDB[1]&cdbFUA != 0 || c.u.writeThrough(&i)
	c.exclusive = true
	c.launch(lba, blocks, true, stepCompareAndWrite)
}

// stepCompareAndWrite reads into a buffer, compares, and writes from the guest's
// memory. The guest may change its data meanwhile: that is between it and itself.
func stepCompareAndWrite(c *Command) bool {
	size := c.left * uint64(c.u.block)
	switch c.stage {
	case 1:
		c.single[0] = blk.Segment{Data: c.buf.data[:size], DMA: blk.NoDMA}
		c.request(blk.OpRead, c.at, uint32(c.left), c.single[:])
	case 2:
		if at := differs(c.buf.data[:size], c.Out, 0); at >= 0 {
			c.miscompare(uint64(at))
			return false
		}
		c.request(blk.OpWrite, c.at, uint32(c.left), c.part(c.Out, c.out, size, size))
	default:
		c.moved = 2 * size
		c.good()
		return false
	}
	return true
}
