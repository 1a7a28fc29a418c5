package vsock

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// state is that of a connection.
type state uint8

const (
	stateHello     state = iota // the client has not said where it wants to
	stateRequested              // the guest has not answered yet
	stateOpen                   // data flows
	stateClosing                // to the guest it is over; what it sent may still have to reach the client
)

// key names a connection: the guest's port and ours.
type key struct{ guest, host uint32 }

// conn is a connection between a client's socket and the guest. It belongs to the
// device's goroutine and is used again and again.
type conn struct {
	slot  int
	round uint32 // of the slot's use: events of earlier ones are void
	used  bool
	state state
	key   key
	named bool // it is in the table of keys
	guest bool // the guest asked for it

	fd                 int // the client's socket; -1 when it is closed
	readable, writable bool
	gone               bool // the client is gone: nobody writes or reads any more
	ended              bool // the client's end of file was read
	deaf               bool // the client takes no more
	out                backlog

	pending   uint16 // bit n: a packet with operation n is to be sent
	queued    bool   // it waits for its turn to send
	shut      uint32 // flags of our SHUTDOWN
	told      uint32 // those that were sent
	guestShut uint32 // flags of the guest's

	// Credit (virtio 1.2 §5.10.6.3). Counts are of bytes, modulo 2^32.
	sent      uint32 // by us
	peerAlloc uint32 // the guest's buffer
	peerFwd   uint32 // what left it
	received  uint32 // by us
	forwarded uint32 // what the client took
	announced uint32 // the last of that which the guest heard of
	begged    bool   // the guest was asked for credit

	deadline time.Time // zero for none
}

// credit is how many bytes the guest has room for.
func (c *conn) credit() uint32 {
	if inFlight := c.sent - c.peerFwd; inFlight < c.peerAlloc {
		return c.peerAlloc - inFlight
	}
	return 0
}

// flows tells whether the client has, or may have, data for the guest.
func (c *conn) flows() bool {
	return c.state == stateOpen && c.fd >= 0 && c.readable && !c.ended && c.guestShut&shutdownReceive == 0
}

// wants tells whether there is anything to send.
func (c *conn) wants() bool {
	return c.pending != 0 || c.flows() && c.credit() > 0
}

// ask marks a packet for sending.
func (c *conn) ask(op uint16) { c.pending |= 1 << op }

// take tells whether a packet was marked, and takes the mark off.
func (c *conn) take(op uint16) bool {
	was := c.pending&(1<<op) != 0
	c.pending &^= 1 << op
	return was
}

// newConn takes a free slot, or returns nil.
func (d *Device) newConn(fd int, s state) *conn {
	var c *conn
	switch {
	case len(d.free) > 0:
		c = d.conns[d.free[len(d.free)-1]]
		d.free = d.free[:len(d.free)-1]
	case len(d.conns) < d.options.MaxConnections:
		c = &conn{slot: len(d.conns)}
		d.conns = append(d.conns, c)
	default:
		return nil
	}
	*c = conn{slot: c.slot, round: c.round + 1, used: true, fd: fd, state: s, queued: c.queued}
	d.count.Open.Add(1)
	return c
}

// release frees a slot and all that hangs on it. It may still be in the queue of
// those that want to send, which wants then denies.
func (d *Device) release(c *conn) {
	d.unname(c)
	closeFD(&c.fd) // which takes it out of the epoll set
	d.unbuffer(&c.out)
	if c.guest {
		d.guests--
	}
	*c = conn{slot: c.slot, round: c.round, fd: -1, state: stateClosing, queued: c.queued}
	d.free = append(d.free, c.slot)
	d.count.Open.Add(-1)
}

// name enters the connection into the table.
func (d *Device) name(c *conn, k key) {
	c.key, c.named = k, true
	d.keys[k] = c
}

func (d *Device) unname(c *conn) {
	if c.named {
		delete(d.keys, c.key)
		c.named = false
	}
}

// schedule lets the connection send when it is its turn.
func (d *Device) schedule(c *conn) {
	if c.flows() && c.credit() == 0 && !c.begged {
		d.beg(c)
	}
	if !c.queued && c.wants() {
		c.queued = true
		d.ready.push(c.slot)
	}
}

// beg asks a guest without room for credit, if the client has data. That it has
// none, and will have none, needs no credit.
func (d *Device) beg(c *conn) {
	var b [1]byte
	n, _, err := unix.Recvfrom(c.fd, b[:], unix.MSG_PEEK)
	switch {
	case errors.Is(err, unix.EAGAIN):
		c.readable = false
	case err != nil || n == 0:
		d.finish(c)
	default:
		c.begged = true
		d.count.CreditStalls.Add(1)
		c.ask(opCreditRequest)
	}
}

// finish notes that the client sends no more.
func (d *Device) finish(c *conn) {
	c.ended = true
	flags := uint32(shutdownSend)
	if c.gone {
		flags = shutdownBoth
	}
	d.hangUp(c, flags)
}

// touch notes progress: the deadline starts anew, where there is one.
func (d *Device) touch(c *conn) {
	var t time.Duration
	switch {
	case c.state == stateHello:
		return // slow clients get no extra time
	case c.state == stateRequested:
		t = d.options.ConnectTimeout
	case c.state == stateClosing, c.gone, c.told == shutdownBoth:
		t = d.options.LingerTimeout
	case c.out.n > 0:
		t = d.options.StallTimeout
	}
	c.deadline = time.Time{}
	if t > 0 {
		c.deadline = d.now.Add(t)
		d.arm()
	}
}

// close ends the connection for the guest with a RST, and for the client when it
// has everything.
func (d *Device) close(c *conn) {
	c.state, c.pending = stateClosing, 1<<opReset
	d.count.Resets.Add(1)
	d.schedule(c)
	d.settle(c)
}

// abort ends it at once for both.
func (d *Device) abort(c *conn) {
	d.unbuffer(&c.out)
	d.close(c)
}

// settle frees what a closing connection needs no more.
func (d *Device) settle(c *conn) {
	if c.out.n == 0 {
		closeFD(&c.fd)
	}
	switch {
	case c.fd < 0 && !c.named:
		d.release(c)
	default:
		d.touch(c)
	}
}

// hangUp adds flags to our SHUTDOWN.
func (d *Device) hangUp(c *conn, flags uint32) {
	if c.state != stateOpen || c.shut|flags == c.shut {
		return
	}
	c.shut |= flags
	c.ask(opShutdown)
	d.schedule(c)
}

// expire ends a connection whose time is up.
func (d *Device) expire(c *conn) {
	d.count.TimedOut.Add(1)
	switch c.state {
	case stateHello:
		d.release(c)
	case stateRequested, stateOpen:
		d.abort(c)
	case stateClosing:
		d.release(c) // the guest takes no packet, or the client no data
	}
}

// fifo is a queue of slots, each of which is in it at most once.
type fifo struct {
	slots   []int
	head, n int
}

func (f *fifo) push(slot int) {
	f.slots[(f.head+f.n)%len(f.slots)] = slot
	f.n++
}

func (f *fifo) pop() int {
	slot := f.slots[f.head]
	f.head = (f.head + 1) % len(f.slots)
	f.n--
	return slot
}
