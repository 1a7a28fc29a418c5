package vsock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// tick is how often deadlines are looked at, while there are any.
const tick = 250 * time.Millisecond

// What an epoll event is about: the slot of a connection, or one of these.
const (
	controlEvent = -1 - iota
	listenEvent
	wakeEvent
	firstKick // and below: one for each ring
)

func kickEvent(ring int) int { return firstKick - ring }

// watch adds a descriptor to the epoll set. Kicks are never read, which could
// block: each new one is an edge.
func (d *Device) watch(fd, what int) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(what)}
	if what <= firstKick {
		e.Events |= unix.EPOLLET
	}
	return unix.EpollCtl(d.epoll, unix.EPOLL_CTL_ADD, fd, &e)
}

// watchClient adds a connection's socket.
func (d *Device) watchClient(c *conn) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(c.slot), Pad: int32(c.round)}
	return unix.EpollCtl(d.epoll, unix.EPOLL_CTL_ADD, c.fd, &e)
}

// unwatch removes a descriptor and closes it. Closing alone would not do: others
// may have it open too.
func (d *Device) unwatch(fd *int) {
	if *fd >= 0 {
		_ = unix.EpollCtl(d.epoll, unix.EPOLL_CTL_DEL, *fd, nil) // it was added, or never could be
		closeFD(fd)
	}
}

func nonblocking(fd int) error { return unix.SetNonblock(fd, true) }

// loop takes turns until the end.
func (d *Device) loop() error {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for !d.closing.Load() {
		err := d.turn()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

// turn waits for events and handles them. Memory that the front end takes away
// under our hands is an error like others.
func (d *Device) turn() (err error) {
	defer func() {
		fault := recover()
		if fault == nil {
			return
		}
		if _, ok := fault.(interface {
			runtime.Error
			Addr() uintptr
		}); !ok {
			panic(fault)
		}
		err = fmt.Errorf("%w: it went away", ErrMemory)
	}()
	n, err := d.wait()
	if err != nil {
		return fmt.Errorf("waiting for events: %w", err)
	}
	d.now = time.Now()
	for i := range n {
		if err := d.dispatch(&d.polled[i]); err != nil {
			return err
		}
	}
	d.tick()
	return d.pass()
}

// wait waits for events, unless there is work without any. The epoll set is itself
// a file in the set of Go's runtime: a goroutine waits there, and no thread.
func (d *Device) wait() (int, error) {
	if d.more {
		d.poll(0)
		return d.ripe, nil
	}
	if d.timed || d.armed {
		until := time.Time{}
		if d.timed {
			until = time.Now().Add(tick)
		}
		if err := d.sets.SetReadDeadline(until); err != nil {
			return 0, err
		}
		d.armed = d.timed
	}
	d.ripe = 0
	if err := d.raw.Read(d.look); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, err
	}
	return d.ripe, nil
}

// poll takes the events that are there, and tells whether there are any.
func (d *Device) poll(uintptr) bool {
	n, err := unix.EpollWait(d.epoll, d.polled[:], 0)
	if d.ripe = n; err != nil {
		d.ripe = 0
	}
	return d.ripe > 0
}

// dispatch handles an event. Kicks need nothing: every turn looks at the rings.
func (d *Device) dispatch(e *unix.EpollEvent) error {
	switch what := int(e.Fd); {
	case what == controlEvent:
		return d.control()
	case what == listenEvent:
		d.accept()
	case what >= 0 && what < len(d.conns):
		if c := d.conns[what]; c.used && int32(c.round) == e.Pad {
			return d.client(c, e.Events)
		}
	}
	return nil
}

// pass moves packets in both directions.
func (d *Device) pass() error {
	d.more = false
	if !d.running() {
		return nil
	}
	if err := d.collect(); err != nil {
		return err
	}
	if d.broken == nil {
		if err := d.deliver(); err != nil {
			return err
		}
	}
	d.rings[queueTx].signal()
	d.rings[queueRx].signal()
	return nil
}

// arm lets tick look at deadlines from now on.
func (d *Device) arm() {
	if !d.timed {
		d.timed, d.ticked = true, d.now
	}
}

// tick ends what took too long. The clock of connections stands still while the
// VM does, but not that of clients that owe us their first line.
func (d *Device) tick() {
	passed := d.now.Sub(d.ticked)
	if !d.timed || passed < tick {
		return
	}
	d.ticked, d.timed = d.now, false
	if d.paused {
		d.resume()
	}
	halted := !d.running()
	for _, c := range d.conns {
		switch {
		case !c.used || c.deadline.IsZero():
			continue
		case halted && c.state != stateHello:
			c.deadline = c.deadline.Add(passed)
		case d.now.After(c.deadline):
			d.expire(c)
			continue
		}
		d.timed = true
	}
}

// maxWarnings bounds what a hostile guest can make us log.
const maxWarnings = 32

func (d *Device) warn(what string, args ...any) {
	if d.warned++; d.warned <= maxWarnings {
		d.options.Log.Warn(what, args...) //nolint:sloglint // the caller has it constant, and this is the host
	}
}
