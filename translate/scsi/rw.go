package scsi

import "keel/translate/blk"

// extent reads the first block and the number of blocks of a CDB. The group of the
// operation code tells where they are (SPC-4, 4.2.5.1).
func extent(cdb *[CDBSize]byte) (lba uint64, blocks uint32) {
	switch cdb[0] >> 5 {
	case 0:
		blocks = uint32(cdb[4])
		if blocks == 0 {
			blocks = 256 // READ(6) and WRITE(6)
		}
		return uint64(be.Uint32(cdb[:]) & 0x1fffff), blocks
	case 4:
		return be.Uint64(cdb[2:]), be.Uint32(cdb[10:])
	case 5:
		return uint64(be.Uint32(cdb[2:])), be.Uint32(cdb[6:])
	default:
		return uint64(be.Uint32(cdb[2:])), uint32(be.Uint16(cdb[7:]))
	}
}

// countField is where the number of blocks stands, for field pointers.
func countField(cdb *[CDBSize]byte) uint16 {
	switch cdb[0] >> 5 {
	case 0:
		return 4
	case 4:
		return 10
	case 5:
		return 6
	default:
		return 7
	}
}

// access checks a command that touches blocks: protection information is not
// supported, the medium is there, the blocks exist. It ends the command when it
// says false.
func (c *Command) access(lba, blocks uint64, i *blk.Info, write bool) bool {
	u := c.u
	if u.kind == kindDisk && c.CDB[0]>>5 != 0 && c.CDB[1]>>cdbProtectShift != 0 {
		c.fail(badCDB(1, 7))
		return false
	}
	if s, ok := u.ready(); !ok {
		c.fail(s)
		return false
	}
	if total := u.blocks(i); lba > total || blocks > total-lba {
		// INFORMATION is the first block that does not exist.
		s := illegal(ascBadLBA)
		s.hasInfo, s.info = true, max(lba, total)
		c.fail(s)
		return false
	}
	if write {
		if s, no := u.protected(i); no {
			c.fail(s)
			return false
		}
	}
	return true
}

// bounded checks the number of blocks against the MAXIMUM TRANSFER LENGTH (SBC-3,
// 6.6.4). A DVD drive cannot tell its guest of one.
func (c *Command) bounded(blocks uint32, i *blk.Info) bool {
	if limit := c.u.maxTransfer(i); limit != 0 && blocks > limit && c.u.kind == kindDisk {
		c.fail(badCDB(countField(&c.CDB), 7))
		return false
	}
	return true
}

// request prepares the command's request for some blocks.
func (c *Command) request(op blk.Op, lba uint64, blocks uint32, segments []blk.Segment) {
	r := &c.req
	r.Op, r.FUA, r.Unmap = op, c.fua && op != blk.OpRead, false
	r.LBA, r.Blocks = lba*uint64(c.u.scale), blocks*c.u.scale
	r.Segments, r.Ranges = segments, nil
}

// runRead reads straight into the guest's memory (SBC-3, 5.10 to 5.13). FUA wants
// what is in a volatile cache on the medium first.
func runRead(c *Command) {
	i := c.u.info()
	lba, blocks := extent(&c.CDB)
	if !c.access(lba, uint64(blocks), &i, false) || !c.bounded(blocks, &i) {
		return
	}
	// 32 bits of blocks of 12 bits of bytes do not overflow.
	need := uint64(blocks) * uint64(c.u.block)
	switch {
	case need > c.inLen:
		c.overrun()
		return
	case need == 0:
		c.good()
		return
	}
	c.at, c.left = lba, uint64(blocks)
	c.fua = i.Volatile && !i.ReadOnly && c.CDB[0] != opRead6 && c.CDB[1]&cdbFUA != 0
	c.launch(lba, uint64(blocks), false, stepRead)
}

// stepRead flushes when it has to, then reads: everything at once, save for a DVD,
// whose drive has no way to advertise its disk's bound.
func stepRead(c *Command) bool {
	if c.fua {
		c.fua = false
		c.request(blk.OpFlush, 0, 0, nil)
		return true
	}
	if c.left == 0 {
		c.good()
		return false
	}
	n := c.left
	if c.u.kind == kindDVD {
		i := c.u.info()
		if limit := c.u.maxTransfer(&i); limit != 0 {
			n = min(n, uint64(limit))
		}
	}
	size := n * uint64(c.u.block)
	c.request(blk.OpRead, c.at, uint32(n), c.part(c.In, c.inLen, c.moved, size))
	c.at += n
	c.left -= n
	c.moved += size
	return true
}

// runWrite writes straight from the guest's memory (SBC-3, 5.35 to 5.38).
func runWrite(c *Command) { c.write(false, c.CDB[0] != opWrite6 && c.CDB[1]&cdbFUA != 0) }

// runWriteAndVerify writes to the medium and reads back (SBC-3, 5.41 to 5.43).
func runWriteAndVerify(c *Command) { c.write(true, true) }

// write checks and starts what the two kinds of writing have in common.
func (c *Command) write(verify, fua bool) {
	i := c.u.info()
	lba, blocks := extent(&c.CDB)
	if !c.access(lba, uint64(blocks), &i, true) || !c.bounded(blocks, &i) {
		return
	}
	if verify && !c.byteCheck() {
		return
	}
	need := uint64(blocks) * uint64(c.u.block)
	switch {
	case need > c.out:
		c.overrun()
		return
	case need == 0:
		c.good()
		return
	}
	c.at, c.left = lba, uint64(blocks)
	c.fua = fua || c.u.writeThrough(&i)
	if verify {
		c.launch(lba, uint64(blocks), true, stepWriteAndVerify)
		return
	}
	c.launch(lba, uint64(blocks), false, stepWrite)
}

// stepWrite writes everything at once.
func stepWrite(c *Command) bool {
	need := c.left * uint64(c.u.block)
	if need == 0 {
		c.good()
		return false
	}
	c.request(blk.OpWrite, c.at, uint32(c.left), c.part(c.Out, c.out, 0, need))
	c.left, c.moved = 0, need
	return true
}

// stepWriteAndVerify goes on as VERIFY once the data is written.
func stepWriteAndVerify(c *Command) bool {
	if c.stage == 1 {
		need := c.left * uint64(c.u.block)
		c.request(blk.OpWrite, c.at, uint32(c.left), c.part(c.Out, c.out, 0, need))
		return true
	}
	c.stage = 1
	c.step = stepVerify
	return stepVerify(c)
}

// runSynchronizeCache answers SYNCHRONIZE CACHE(10) and (16) (SBC-3, 5.22 and
// 5.23). It flushes everything; with IMMED it still waits, which does no harm.
func runSynchronizeCache(c *Command) {
	i := c.u.info()
	lba, blocks := extent(&c.CDB)
	if s, ok := c.u.ready(); !ok {
		c.fail(s)
		return
	}
	if total := c.u.blocks(&i); lba > total || uint64(blocks) > total-lba {
		c.fail(illegal(ascBadLBA))
		return
	}
	c.launch(0, 0, false, stepFlush)
}

// stepFlush flushes once. MODE SELECT and START STOP UNIT end with it, too.
func stepFlush(c *Command) bool {
	if c.stage > 1 {
		c.good()
		return false
	}
	c.request(blk.OpFlush, 0, 0, nil)
	return true
}
