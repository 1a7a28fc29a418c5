package virtioscsi

import (
	"encoding/binary"
	"math"
	"sync/atomic"

	"keel/translate/blk"
	"keel/translate/scsi"
	"keel/translate/virtio"
)

// command is a SCSI command in flight. There is one for each slot of a request
// queue, made once.
type command struct {
	scsi       scsi.Command
	controller *Controller
	chain      *virtio.Chain
	response   []blk.Segment // where the response goes
	senseSize  int
	in         uint64 // bytes of the data-in buffer
	header     [reqCDB + maxCDB]byte
	reply      [respFixed + maxSense]byte

	// For aborts: which command it is.
	busy atomic.Bool
	lun  atomic.Uint32
	tag  atomic.Uint64
}

func (c *command) init(ct *Controller, queue int) {
	c.controller = ct
	c.scsi.Queue, c.scsi.Initiator = queue, ct.initiator
	c.scsi.Done = func(*scsi.Command) { c.done() }
}

// start runs the request in a chain: a header, data-out, a response, data-in, cut
// into buffers wherever the driver likes (§2.7.4).
func (c *command) start(chain *virtio.Chain) {
	ct := c.controller
	c.chain = chain
	c.senseSize = int(ct.senseSize.Load())
	n := respFixed + c.senseSize
	if chain.WritableBytes < uint64(n) {
		ct.counters.malformed.Add(1)
		chain.Complete(0) // there is no room to say why
		return
	}
	c.response = virtio.Take(c.response[:0], &chain.Writable, n)
	c.in = chain.WritableBytes - uint64(n)
	header := c.header[:reqCDB+int(ct.cdbSize.Load())]
	if virtio.Read(header, &chain.Readable) < len(header) {
		ct.counters.malformed.Add(1)
		c.refuse(respFailure)
		return
	}
	lun, ok := parseLUN(header[reqLUN:])
	switch {
	case !ok:
		ct.counters.badTarget.Add(1)
		c.refuse(respBadTarget)
		return
	case len(chain.Readable) > 0 && len(chain.Writable) > 0 && ct.device.Features()&featureInOut == 0:
		ct.counters.malformed.Add(1)
		c.refuse(respFailure)
		return
	}
	s := &c.scsi
	clear(s.CDB[copy(s.CDB[:], header[reqCDB:]):])
	s.LUN, s.Tag = lun, binary.LittleEndian.Uint64(header[reqTag:])
	s.Out, s.In = chain.Readable, chain.Writable
	c.lun.Store(uint32(lun))
	c.tag.Store(s.Tag)
	c.busy.Store(true)
	if !ct.used.Load() {
		ct.used.Store(true)
	}
	ct.target.Submit(s)
}

// refuse answers a request that the target does not see.
func (c *command) refuse(code response) {
	reply := c.reply[:respFixed+c.senseSize]
	clear(reply)
	reply[respCode] = byte(code)
	virtio.Write(c.response, reply)
	c.chain.Complete(uint32(len(reply)))
}

// done answers a request that the target has ended.
func (c *command) done() {
	s := &c.scsi
	c.busy.Store(false)
	reply := c.reply[:respFixed+c.senseSize]
	clear(reply)
	sense := copy(reply[respFixed:], s.Sense[:min(max(s.SenseLen, 0), len(s.Sense))])
	binary.LittleEndian.PutUint32(reply[respSense:], uint32(sense))
	binary.LittleEndian.PutUint32(reply[respResid:], uint32(min(s.Residual, math.MaxUint32)))
	reply[respStatus] = byte(s.Status)
	reply[respCode] = byte(c.code())
	written := uint64(len(reply))
	if s.Residual < c.in {
		written += c.in - s.Residual
	}
	virtio.Write(c.response, reply)
	// From here on the command may be another one.
	c.chain.Complete(uint32(min(written, math.MaxUint32)))
}

// code is the response that says how the command ended.
func (c *command) code() response {
	switch c.scsi.Ending {
	case scsi.Aborted:
		return respAborted
	case scsi.WasReset:
		return respReset
	case scsi.Removed:
		return respBadTarget
	case scsi.Completed:
	}
	if c.scsi.Overrun {
		c.controller.counters.overruns.Add(1)
		return respOverrun
	}
	return respOK
}
