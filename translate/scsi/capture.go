package scsi

import (
	"time"

	"keel/translate/blk"
	"keel/translate/tap"
)

// Capture gives the commands of a logical unit to a tap from now on, or to none, and tells
// whether the unit is there.
func (ct *Controller) Capture(lun uint16, t *tap.Tap) bool {
	if lun >= MaxLUNs {
		return false
	}
	u := ct.units[lun].Load()
	if u != nil {
		u.tap.Store(t)
	}
	return u != nil
}

// captureStart gives a command that starts to a tap.
func (c *Command) captureStart(t *tap.Tap) {
	r := tap.Record{
		Kind: tap.SCSICommand, Length: CDBSize, LUN: c.LUN, Queue: uint16(c.Queue), Time: c.since, In: c.inLen, Out: c.out,
	}
	copy(r.Bytes[:], c.CDB[:])
	if t.Command(&r, c.Out) {
		c.tap, c.tag = t, r.Tag
	}
}

// captureEnd gives the end of a command to the tap that has its start.
func (c *Command) captureEnd(now time.Duration) {
	r := tap.Record{
		Kind: tap.SCSIStatus, Length: uint8(c.SenseLen), Status: uint8(c.Status), Ended: c.Ending == Completed,
		LUN: c.LUN, Queue: uint16(c.Queue), Tag: c.tag, Time: now, Residual: c.Residual,
	}
	copy(r.Bytes[:], c.Sense[:c.SenseLen])
	var in []blk.Segment
	if c.out == 0 { // the bytes that were moved went to the guest
		in, r.In = c.In, min(c.moved, c.inLen)
	}
	c.tap.End(&r, in, r.In)
	c.tap = nil
}
