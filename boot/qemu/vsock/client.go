package vsock

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	acceptsATurn = 32
	maxLine      = 32      // bytes of a CONNECT line
	firstPort    = 1 << 30 // host ports of clients' connections lie from here
	lastPort     = 1<<31 - 1
)

// accept takes clients off the listener.
func (d *Device) accept() {
	for range acceptsATurn {
		fd, _, err := unix.Accept4(d.socket.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
			d.pause()
			return
		case err != nil:
			continue // that one is gone
		}
		d.count.Clients.Add(1)
		var c *conn
		if friend(fd) {
			c = d.newConn(fd, stateHello)
		}
		if c == nil {
			_ = unix.Close(fd) // too many, or a stranger
			d.count.Refused.Add(1)
			continue
		}
		c.deadline = d.now.Add(d.options.HandshakeTimeout)
		d.arm()
		if err := d.watchClient(c); err != nil {
			d.refuse(c)
		}
	}
}

// pause leaves clients in the listener's queue for a tick.
func (d *Device) pause() {
	d.paused = true
	d.arm()
	_ = unix.EpollCtl(d.epoll, unix.EPOLL_CTL_MOD, d.socket.fd, &unix.EpollEvent{Fd: listenEvent}) // it is in the set
}

func (d *Device) resume() {
	d.paused = false
	_ = unix.EpollCtl(d.epoll, unix.EPOLL_CTL_MOD, d.socket.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: listenEvent})
}

// refuse drops a client that gets no connection.
func (d *Device) refuse(c *conn) {
	d.count.Refused.Add(1)
	d.release(c)
}

// client handles events of a connection's socket.
func (d *Device) client(c *conn, events uint32) error {
	const lost = unix.EPOLLHUP | unix.EPOLLERR
	c.readable = c.readable || events&(unix.EPOLLIN|unix.EPOLLRDHUP|lost) != 0
	c.writable = c.writable || events&(unix.EPOLLOUT|lost) != 0
	if events&lost != 0 && !c.gone {
		c.gone, c.deaf = true, true
		d.leave(c)
		d.touch(c)
	}
	if c.state == stateHello {
		d.hello(c)
		return nil
	}
	if err := d.flush(c); err != nil {
		return err
	}
	if c.used {
		d.schedule(c)
	}
	return nil
}

// leave tells the guest of a client that is gone. What it wrote goes first.
func (d *Device) leave(c *conn) {
	flags := uint32(shutdownReceive)
	if c.ended {
		flags = shutdownBoth
	}
	d.hangUp(c, flags)
}

// hello reads the client's first line, once it is all here. What follows it stays
// in the socket: it is the guest's.
func (d *Device) hello(c *conn) {
	var line [maxLine]byte
	n, _, err := unix.Recvfrom(c.fd, line[:], unix.MSG_PEEK)
	if errors.Is(err, unix.EAGAIN) {
		c.readable = false
		return
	}
	if err != nil || n == 0 {
		d.refuse(c)
		return
	}
	end := bytes.IndexByte(line[:n], '\n')
	if end < 0 {
		if n == maxLine || c.gone {
			d.refuse(c)
		}
		return
	}
	port, ok := parseConnect(string(line[:end]))
	if _, err := unix.Read(c.fd, line[:end+1]); err != nil || !ok || !d.seen || d.broken != nil {
		d.refuse(c)
		return
	}
	k := key{guest: port, host: d.port}
	for d.keys[k] != nil {
		k.host = d.nextPort()
	}
	d.nextPort()
	d.name(c, k)
	c.state = stateRequested
	c.ask(opRequest)
	d.touch(c)
	d.schedule(c)
}

// nextPort steps to the next of our ports. There are more than connections.
func (d *Device) nextPort() uint32 {
	if d.port++; d.port > lastPort {
		d.port = firstPort
	}
	return d.port
}

// parseConnect takes the port out of a client's line.
func parseConnect(line string) (uint32, bool) {
	word, number, ok := strings.Cut(strings.TrimSuffix(line, "\r"), " ")
	if !ok || !strings.EqualFold(word, "CONNECT") {
		return 0, false
	}
	port, err := strconv.ParseUint(number, 10, 32)
	return uint32(port), err == nil && port != portAny
}

// opened tells the client that the guest has taken its connection.
func (d *Device) opened(c *conn) {
	c.state = stateOpen
	d.count.Connected.Add(1)
	d.touch(c)
	if c.gone {
		d.leave(c)
		return
	}
	answer := fmt.Appendf(nil, "OK %d\n", c.key.host)
	if n, err := unix.Write(c.fd, answer); err != nil || n != len(answer) {
		c.deaf = true // a client that half closed, or is about to be gone
		d.leave(c)
	}
}

// requested connects the guest with the Unix socket that stands for its port.
func (d *Device) requested(h *header, k key) {
	d.count.GuestRequests.Add(1)
	if d.guests >= max(1, d.options.MaxConnections/2) {
		d.count.Refused.Add(1)
		d.orphan(h, k)
		return
	}
	fd, err := dial(d.options.Path + "_" + strconv.FormatUint(uint64(k.host), 10))
	if err != nil {
		d.count.Refused.Add(1)
		d.orphan(h, k)
		return
	}
	c := d.newConn(fd, stateOpen)
	if c == nil {
		_ = unix.Close(fd) // too many
		d.count.Refused.Add(1)
		d.orphan(h, k)
		return
	}
	c.guest = true
	d.guests++
	c.peerAlloc, c.peerFwd = h.bufAlloc, h.fwdCnt
	d.name(c, k)
	if d.watchClient(c) != nil || c.peerFwd != 0 {
		d.abort(c)
		return
	}
	d.count.Connected.Add(1)
	c.ask(opResponse)
	d.schedule(c)
}

// dial connects to a Unix socket without waiting: one whose queue is full refuses.
func dial(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		closeFD(&fd)
		return -1, err
	}
	if strings.HasPrefix(path, abstract) && !friend(fd) {
		closeFD(&fd)
		return -1, unix.EACCES
	}
	return fd, nil
}
