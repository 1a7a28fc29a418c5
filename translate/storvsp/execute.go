package storvsp

import (
	"encoding/binary"

	"keel/translate/blk"
	"keel/translate/scsi"
	"keel/translate/vmbus"
)

// absentLUN is a LUN that no target has.
const absentLUN = 0xFF

// execute hands a SCSI command to the target. It returns false when there is no
// room for its page list now.
func (q *queue) execute(c *command, p *vmbus.Packet) bool {
	ct := q.ctl
	m := p.Payload
	if !ct.ready() {
		ct.n.badState.Add(1)
		q.complete(c, ntInvalidState)
		return true
	}
	copy(c.answer[atPath:atLUN+1], m[atPath:atLUN+1])
	length := binary.LittleEndian.Uint32(m[atDataLength:])
	c.length = length
	cdb := int(m[atCDBLength])
	if cdb == 0 || cdb > cdbSize || uint64(length) > uint64(ct.Transfer) || length > 0 && (!p.Direct || m[atDataIn] > dataIn) {
		q.refuse(c)
		return true
	}
	ok, room := q.pages(c, p, int(length))
	switch {
	case !room:
		return false
	case !ok:
		q.refuse(c)
		return true
	}
	// The packet's buffer is the channel's, so the CDB is copied. Bytes beyond the
	// length that the guest named are zero, whatever it sent.
	s := &c.scsi
	s.CDB = [scsi.CDBSize]byte{}
	copy(s.CDB[:cdb], m[atCDB:])
	s.In, s.Out = nil, nil
	if m[atDataIn] == dataIn {
		s.In = c.data
	} else {
		s.Out = c.data
	}
	s.LUN, s.Tag, s.Queue, s.Initiator = uint16(m[atLUN]), p.Transaction, q.hint, ct.Initiator
	if m[atPath] != 0 || m[atTarget] != 0 {
		// Guests look at all eight paths and two targets; the disks are on the
		// first.
		s.LUN = absentLUN
		if s.CDB[0] == opcodeReport {
			q.reportNothing(c)
			return true
		}
	}
	// Done may be called, and the command be another one, before this returns.
	ct.n.requests.Add(1)
	ct.Target.Submit(s)
	return true
}

// refuse answers a command that has no meaning.
func (q *queue) refuse(c *command) {
	q.ctl.n.badRequest.Add(1)
	q.respond(c, srbInvalidRequest, statusCheck, 0)
}

// pages makes the segments of a command from the packet's page list: the first
// length bytes that it names. room is false when a list that long has to wait for
// another to end.
func (q *queue) pages(c *command, p *vmbus.Packet, length int) (ok, room bool) {
	c.data = c.inline[:0]
	it := p.Pages()
	for left := length; left > 0; {
		if !it.Next() {
			return false, true
		}
		n := min(left, it.Length)
		memory, err := q.ctl.Memory.Slice(it.GPA, n)
		if err != nil {
			return false, true
		}
		if len(c.data) == cap(c.data) {
			if c.long != nil {
				return false, true // ranges of a few bytes each
			}
			if !q.grow(c) {
				return false, false
			}
		}
		dma := blk.NoDMA
		if q.ctl.DirectDMA {
			dma = uint64(it.GPA)
		}
		c.data = append(c.data, blk.Segment{Data: memory, DMA: dma})
		left -= n
	}
	return true, true
}

// reportNothing answers REPORT LUNS of a target that has none.
func (q *queue) reportNothing(c *command) {
	var zero [reportHeader]byte
	n := min(binary.BigEndian.Uint32(c.scsi.CDB[6:]), reportHeader)
	moved := 0
	for _, s := range c.scsi.In {
		moved += copy(s.Data, zero[moved:n])
	}
	q.respond(c, srbSuccess, 0, uint32(moved))
}

// done is called when a target has run a command.
func (c *command) done(s *scsi.Command) {
	q := c.queue
	moved := c.length - uint32(min(s.Residual, uint64(c.length)))
	switch s.Ending {
	case scsi.Completed:
	case scsi.Removed:
		q.absent(c)
		return
	case scsi.WasReset:
		// Guests wait for the answers of all that a reset aborts.
		q.respond(c, srbBusReset, statusAborted, 0)
		return
	case scsi.Aborted:
		q.respond(c, srbAborted, statusAborted, 0)
		return
	}
	switch status := byte(s.Status); status {
	case 0:
		if s.Overrun {
			q.respond(c, srbDataOverrun, status, moved)
			return
		}
		q.respond(c, srbSuccess, status, moved)
	case statusCheck:
		sense := s.Sense[:min(s.SenseLen, senseSize)]
		if noSuchLUN(sense) {
			q.absent(c)
			return
		}
		c.answer[atSenseLength] = byte(copy(c.answer[atSense:atSense+senseSize], sense))
		q.respond(c, srbError|srbAutosense, status, moved)
	case statusBusy, statusTaskFull:
		// Linux then looks at the SCSI status and tries again.
		q.respond(c, srbBusy, status, 0)
	default: // RESERVATION CONFLICT and the like
		q.respond(c, srbError, status, moved)
	}
}

// absent answers that there is no such disk. Linux removes it then; it is how a
// disk is noticed that was unplugged, by the TEST UNIT READY that ENUMERATE BUS makes
// the guest send. INQUIRY never ends so: the target answers it with "no device".
func (q *queue) absent(c *command) {
	q.ctl.n.absent.Add(1)
	q.respond(c, srbInvalidLUN, statusCheck, 0)
}

// noSuchLUN tells whether sense data says LOGICAL UNIT NOT SUPPORTED.
func noSuchLUN(sense []byte) bool {
	if len(sense) < 8 {
		return false
	}
	switch sense[0] & 0x7F {
	case senseFixed:
		return len(sense) > 12 && sense[2]&0xF == keyIllegal && sense[12] == ascNoSuchLUN
	case senseDescr:
		return sense[1]&0xF == keyIllegal && sense[2] == ascNoSuchLUN
	}
	return false
}

// respond answers a SCSI command. Sense data is in the answer already.
func (q *queue) respond(c *command, srb, status byte, moved uint32) {
	a := &c.answer
	binary.LittleEndian.PutUint16(a[atLength:], requestSize)
	a[atSRBStatus], a[atSCSIStatus] = srb, status
	a[atCDBLength] = cdbSize
	binary.LittleEndian.PutUint32(a[atDataLength:], moved)
	nt := uint32(ntDeviceError)
	switch srb {
	case srbSuccess:
		nt = ntSuccess
	case srbDataOverrun:
		nt = ntBufferOverflow
	case srbBusy:
		nt = ntDeviceBusy
	case srbAborted:
		nt = ntCancelled
	case srbInvalidLUN:
		nt = ntNoDevice
	case srbInvalidRequest:
		nt = ntInvalidRequest
	}
	q.complete(c, nt)
}
