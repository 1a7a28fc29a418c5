package vsock

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// ErrProtocol says that the front end does not speak vhost-user as QEMU does.
var ErrProtocol = errors.New("vhost-user protocol")

var (
	errShort  = errors.New("wrong length")
	errIndex  = errors.New("no such virtqueue")
	errMany   = errors.New("too many descriptors")
	errNoFD   = errors.New("not one descriptor, an event's")
	errActive = errors.New("the virtqueue runs")
)

// message is one of the front end's. It is valid until the next one.
type message struct {
	request request
	flags   uint32
	payload []byte
	fds     []int // those that are still in it get closed
}

// take removes the message's only descriptor, an eventfd.
func (m *message) take() (int, error) {
	if len(m.fds) != 1 || !isEvent(m.fds[0]) {
		return -1, errNoFD
	}
	fd := m.fds[0]
	m.fds = nil
	return fd, nil
}

// isEvent tells whether a descriptor is an eventfd: writing to something else
// could take any time.
func isEvent(fd int) bool {
	var b [32]byte
	n, err := unix.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd), b[:])
	return err == nil && string(b[:n]) == "anon_inode:[eventfd]"
}

// channel takes messages off a non-blocking socket, in whatever pieces they come.
type channel struct {
	fd  int
	buf [messageHeader + maxPayload]byte
	n   int // bytes of the message that are here
	fds []int
	oob [64]byte // CMSG_SPACE of maxFDs numbers
}

// receive returns the next message, or false when it is not all here.
// Errors: io.EOF when the front end is gone, ErrProtocol.
func (c *channel) receive() (message, bool, error) {
	for {
		need := messageHeader
		if c.n >= messageHeader {
			size := le.Uint32(c.buf[8:])
			if size > maxPayload {
				return message{}, false, fmt.Errorf("%w: a message of %d bytes", ErrProtocol, size)
			}
			need += int(size)
		}
		if c.n == need {
			m := message{request: request(le.Uint32(c.buf[:])), flags: le.Uint32(c.buf[4:]), payload: c.buf[messageHeader:need], fds: c.fds}
			c.n, c.fds = 0, nil
			if m.flags&messageVersions != messageVersion || m.flags&messageReply != 0 {
				closeAll(m.fds)
				return message{}, false, fmt.Errorf("%w: flags %#x", ErrProtocol, m.flags)
			}
			return m, true, nil
		}
		n, oob, flags, _, err := unix.Recvmsg(c.fd, c.buf[c.n:need], c.oob[:], unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return message{}, false, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || n == 0: // a front end that died may leave a reset behind
			return message{}, false, io.EOF
		}
		c.n += n
		if err := c.rights(oob, flags); err != nil {
			return message{}, false, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
	}
}

// rights collects the descriptors that came with a piece of the message.
func (c *channel) rights(oob, flags int) error {
	if oob > 0 {
		list, err := unix.ParseSocketControlMessage(c.oob[:oob])
		if err != nil {
			return err
		}
		for i := range list {
			fds, err := unix.ParseUnixRights(&list[i])
			if err != nil {
				return err
			}
			c.fds = append(c.fds, fds...)
		}
	}
	if len(c.fds) > maxFDs || flags&unix.MSG_CTRUNC != 0 {
		return errMany
	}
	return nil
}

// reply answers a message. The front end waits for answers: a socket without room
// for one is an error.
func (c *channel) reply(to request, payload []byte) error {
	b := make([]byte, 0, messageHeader+maxPayload)
	b = le.AppendUint32(b, uint32(to))
	b = le.AppendUint32(b, messageVersion|messageReply)
	b = le.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	if n, err := unix.Write(c.fd, b); err != nil || n != len(b) {
		return fmt.Errorf("%w: no room for an answer: %d of %d bytes: %w", ErrProtocol, n, len(b), orShort(err))
	}
	return nil
}

func orShort(err error) error {
	if err == nil {
		return io.ErrShortWrite
	}
	return err
}

func closeAll(fds []int) {
	for _, fd := range fds {
		closeFD(&fd)
	}
}

// closeFD closes a descriptor that there may be, and forgets it.
func closeFD(fd *int) {
	if *fd >= 0 {
		_ = unix.Close(*fd) // nothing is buffered
		*fd = -1
	}
}
