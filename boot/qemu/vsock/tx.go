package vsock

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// collect takes packets from the guest. An error is fatal.
func (d *Device) collect() error {
	r := &d.rings[queueTx]
	for range packetsATurn {
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
		case r.bytes < packetHeader:
			d.fail(r.bad("chain", errTiny))
			return nil
		}
		d.count.PacketsFromGuest.Add(1)
		r.gather(d.scratch[:])
		d.header.parse(&d.scratch)
		if err := d.packetFromGuest(&d.header); err != nil {
			return err
		}
		if d.broken != nil {
			return nil
		}
		r.done(0)
	}
	d.more = true
	return nil
}

// packetFromGuest handles the packet at the front of the transmit queue.
func (d *Device) packetFromGuest(h *header) error {
	if h.srcCID != uint64(d.options.CID) || h.dstCID != cidHost {
		d.count.BadPackets.Add(1) // nobody who could be answered
		return nil
	}
	k := key{guest: h.srcPort, host: h.dstPort}
	c := d.keys[k]
	if h.kind != typeStream {
		d.count.BadPackets.Add(1)
		d.orphan(h, k)
		return nil
	}
	if c == nil {
		if h.op == opRequest {
			d.requested(h, k)
		} else {
			d.orphan(h, k)
		}
		return nil
	}
	if c.state == stateClosing {
		if h.op == opReset && c.take(opReset) {
			d.unname(c) // both sides closed at once
			d.settle(c)
		}
		return nil
	}
	c.peerAlloc, c.peerFwd = h.bufAlloc, h.fwdCnt
	if c.sent-c.peerFwd > 1<<31 { // it took more than there was
		d.violation(c)
		return nil
	}
	if c.credit() > 0 {
		c.begged = false
	}
	err := d.operation(c, h)
	if c.used {
		d.schedule(c)
	}
	return err
}

// operation does what a packet of a living connection asks for.
func (d *Device) operation(c *conn, h *header) error {
	switch h.op {
	case opReset:
		d.resetByGuest(c)
	case opResponse:
		if c.state != stateRequested {
			d.violation(c)
			return nil
		}
		d.opened(c)
	case opRW:
		if c.state != stateOpen || c.guestShut&shutdownSend != 0 {
			d.violation(c)
			return nil
		}
		return d.data(c, h.length)
	case opShutdown:
		if c.state != stateOpen {
			d.violation(c)
			return nil
		}
		d.shutdownByGuest(c, h.flags&shutdownBoth)
	case opCreditRequest:
		c.ask(opCreditUpdate)
	case opCreditUpdate: // every packet is one
	default:
		d.violation(c)
	}
	return nil
}

// violation resets a connection whose other end breaks the rules.
func (d *Device) violation(c *conn) {
	d.count.BadPackets.Add(1)
	d.abort(c)
}

// orphan answers a packet that belongs to no connection.
func (d *Device) orphan(h *header, k key) {
	if h.op != opReset && !d.resets.push(orphan{k, h.kind}) {
		d.count.DroppedResets.Add(1)
	}
}

// resetByGuest ends a connection without an answer. What the guest sent before
// still reaches the client.
func (d *Device) resetByGuest(c *conn) {
	c.state, c.pending = stateClosing, 0
	d.unname(c)
	d.settle(c)
}

// shutdownByGuest notes what the guest does no more.
func (d *Device) shutdownByGuest(c *conn, flags uint32) {
	c.guestShut |= flags
	if c.guestShut == shutdownBoth {
		d.close(c) // §5.10.6.6: RST is the answer
		return
	}
	if c.guestShut&shutdownReceive != 0 {
		_ = unix.Shutdown(c.fd, unix.SHUT_RD) // the client learns it at its next write
	}
	if c.guestShut&shutdownSend != 0 && c.out.n == 0 {
		_ = unix.Shutdown(c.fd, unix.SHUT_WR)
	}
}

// data passes the payload of the packet at the front of the transmit queue to the
// client, or keeps what it does not take.
func (d *Device) data(c *conn, length uint32) error {
	r := &d.rings[queueTx]
	if uint64(length) > r.bytes-packetHeader || length > maxData || c.received-c.forwarded+length > bufferBytes {
		d.violation(c)
		return nil
	}
	c.received += length
	d.count.BytesFromGuest.Add(uint64(length))
	skip, left := packetHeader, int(length)
	for _, s := range r.segments {
		k := min(skip, len(s))
		skip -= k
		s = s[k:]
		s = s[:min(len(s), left)]
		left -= len(s)
		if c.out.n == 0 {
			n, err := d.write(c, s)
			if err != nil {
				return err
			}
			s = s[n:]
		}
		if len(s) > 0 {
			d.buffer(&c.out)
			c.out.add(s)
			if c.deadline.IsZero() {
				d.touch(c) // from now on the client owes us
			}
		}
	}
	d.announce(c)
	return nil
}

// write gives bytes to the client and returns how many it took. One that hears
// nothing takes all.
func (d *Device) write(c *conn, p []byte) (int, error) {
	n := 0
	for n < len(p) && c.writable && !c.deaf {
		k, err := unix.Write(c.fd, p[n:])
		n += max(k, 0)
		switch {
		case errors.Is(err, unix.EFAULT):
			return n, fmt.Errorf("%w: it went away", ErrMemory)
		case errors.Is(err, unix.EAGAIN):
			c.writable = false
		case err != nil:
			c.deaf = true
			d.hangUp(c, shutdownReceive)
		}
	}
	if c.deaf {
		n = len(p)
	}
	c.forwarded += uint32(n)
	return n, nil
}

// flush gives the client what it did not take before.
func (d *Device) flush(c *conn) error {
	if c.out.n == 0 {
		return nil
	}
	moved := 0
	for c.out.n > 0 {
		n, err := d.write(c, c.out.front())
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		c.out.drop(n)
		moved += n
	}
	if c.out.n == 0 {
		d.unbuffer(&c.out)
		if c.state == stateOpen && c.guestShut&shutdownSend != 0 {
			_ = unix.Shutdown(c.fd, unix.SHUT_WR)
		}
	}
	if moved > 0 {
		d.touch(c)
	}
	if c.state == stateClosing {
		d.settle(c)
		return nil
	}
	d.announce(c)
	d.schedule(c)
	return nil
}

// announce tells the guest of credit before it runs out of it.
func (d *Device) announce(c *conn) {
	if c.forwarded != c.announced && c.received-c.announced >= bufferBytes/2 {
		c.ask(opCreditUpdate)
	}
}
