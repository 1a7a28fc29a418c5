package vsock

import (
	"context"
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// DialHost connects from the VM to a port of its host. Deadlines of the connection work as
// those of package net.
func DialHost(ctx context.Context, port uint32) (net.Conn, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, failed("socket", err)
	}
	to := Addr{unix.VMADDR_CID_HOST, port}
	err = unix.Connect(fd, &unix.SockaddrVM{CID: to.CID, Port: to.Port})
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd) // the error to report is the first one
		return nil, failed("connect", err)
	}
	c := &conn{File: os.NewFile(uintptr(fd), network), local: Addr{unix.VMADDR_CID_ANY, 0}, remote: to}
	if err == nil {
		return c, nil
	}
	if err := c.connected(ctx, fd); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// connected waits until the connection stands.
func (c *conn) connected(ctx context.Context, fd int) error {
	deadline, _ := ctx.Deadline()
	if err := c.SetWriteDeadline(deadline); err != nil {
		return failed("connect", err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return failed("connect", err)
	}
	var state error
	err = raw.Write(func(uintptr) bool {
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if state = err; err == nil && n != 0 {
			state = unix.Errno(n)
		}
		if state != nil {
			return true
		}
		_, err = unix.Getpeername(fd)
		return err == nil // else it is under way
	})
	if err != nil {
		return failed("connect", err)
	}
	if state != nil {
		return failed("connect", state)
	}
	return nil
}
