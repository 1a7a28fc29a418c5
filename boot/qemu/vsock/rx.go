package vsock

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// packetsATurn bounds how many packets pass in one direction before the loop looks
// at everything else.
const packetsATurn = 256

// orphan is a packet of the guest's that belongs to no connection, and is
// answered by a RST.
type orphan struct {
	key  key
	kind uint16
}

// orphans is a short queue of them. What has no room stays without an answer: the
// guest's own timeout finds out.
type orphans struct {
	list    [64]orphan
	head, n int
}

func (o *orphans) clear() { o.head, o.n = 0, 0 }

func (o *orphans) push(x orphan) bool {
	if o.n == len(o.list) {
		return false
	}
	o.list[(o.head+o.n)%len(o.list)] = x
	o.n++
	return true
}

func (o *orphans) pop() orphan {
	x := o.list[o.head]
	o.head = (o.head + 1) % len(o.list)
	o.n--
	return x
}

// deliver sends packets to the guest while there are some, and buffers for them.
// Connections take turns, a packet each. An error is fatal.
func (d *Device) deliver() error {
	r := &d.rings[queueRx]
	for budget := packetsATurn; d.resets.n > 0 || d.ready.n > 0; budget-- {
		if budget == 0 {
			d.more = true
			return nil
		}
		ok, err := r.peek(&d.memory)
		switch {
		case err != nil:
			d.fail(err)
			return nil
		case !ok:
			if r.rearm() {
				return nil // its kick comes
			}
			continue
		case r.bytes <= packetHeader:
			d.fail(r.bad("chain", errTiny))
			return nil
		}
		if d.resets.n > 0 {
			o := d.resets.pop()
			d.put(&header{srcPort: o.key.host, dstPort: o.key.guest, kind: o.kind, op: opReset})
			continue
		}
		c := d.conns[d.ready.pop()]
		c.queued = false
		if !c.used {
			continue
		}
		if err := d.send(c); err != nil {
			return err
		}
		if c.used {
			d.schedule(c)
		}
	}
	return nil
}

// put completes a packet whose payload is in place.
func (d *Device) put(h *header) {
	r := &d.rings[queueRx]
	h.srcCID, h.dstCID = cidHost, uint64(d.options.CID)
	h.put(&d.scratch)
	r.scatter(d.scratch[:])
	r.done(packetHeader + h.length)
	d.count.PacketsToGuest.Add(1)
}

// packet sends a packet of a connection, whose payload is in place.
func (d *Device) packet(c *conn, op uint16, flags, length uint32) {
	c.announced = c.forwarded
	c.take(opCreditUpdate) // every packet is one
	d.header = header{
		srcPort: c.key.host, dstPort: c.key.guest, kind: typeStream, op: op,
		flags: flags, length: length, bufAlloc: bufferBytes, fwdCnt: c.forwarded,
	}
	d.put(&d.header)
}

// send sends at most one packet of a connection. Preconditions: the receive queue
// has a chain.
func (d *Device) send(c *conn) error {
	switch {
	case c.take(opRequest):
		d.packet(c, opRequest, 0, 0)
	case c.take(opResponse):
		d.packet(c, opResponse, 0, 0)
	case c.take(opReset):
		d.packet(c, opReset, 0, 0)
		d.unname(c)
		d.settle(c)
	case c.flows() && c.credit() > 0:
		return d.sendData(c)
	case c.take(opShutdown):
		d.packet(c, opShutdown, c.shut, 0)
		c.told = c.shut
		d.touch(c)
	case c.take(opCreditUpdate):
		d.packet(c, opCreditUpdate, 0, 0)
	case c.take(opCreditRequest):
		d.packet(c, opCreditRequest, 0, 0)
	}
	return nil
}

// sendData moves bytes from the client's socket right into the guest's buffer.
func (d *Device) sendData(c *conn) error {
	limit := int(min(c.credit(), maxData))
	skip, n, ended := packetHeader, 0, false
	for _, s := range d.rings[queueRx].segments {
		k := min(skip, len(s))
		skip -= k
		s = s[k:]
		s = s[:min(len(s), limit-n)]
		if len(s) == 0 {
			continue
		}
		k, err := unix.Read(c.fd, s)
		switch {
		case errors.Is(err, unix.EFAULT):
			return fmt.Errorf("%w: it went away", ErrMemory)
		case errors.Is(err, unix.EAGAIN):
			c.readable = false
		case err != nil || k == 0:
			ended = true // a reset by the client is its end too
		}
		n += max(k, 0)
		if k < len(s) {
			break
		}
	}
	if n > 0 {
		c.sent += uint32(n)
		d.count.BytesToGuest.Add(uint64(n))
		d.packet(c, opRW, 0, uint32(n))
		d.touch(c)
	}
	if ended {
		d.finish(c)
	}
	return nil
}
