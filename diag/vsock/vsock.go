// Package vsock carries the diagnostics between a VM and its host: sockets of the family
// AF_VSOCK in the VM (vsock(7)), and the hybrid Unix socket of the launcher on the host,
// which Firecracker and Cloud Hypervisor made usual.
package vsock

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// network names the sockets in errors.
const network = "vsock"

// Addr is a vsock address.
type Addr struct {
	CID, Port uint32
}

// Network returns "vsock".
func (Addr) Network() string { return network }

// String returns "CID:port".
func (a Addr) String() string { return fmt.Sprintf("%d:%d", a.CID, a.Port) }

// Listener accepts connections of the host. Close and deadlines of the connections work
// as those of package net.
type Listener struct {
	file *os.File
	raw  syscall.RawConn
	addr Addr
}

// Listen listens on a port. waiting bounds the connections that wait to be accepted;
// the kernel refuses further ones.
func Listen(port uint32, waiting int) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, failed("socket", err)
	}
	l, err := listen(fd, Addr{unix.VMADDR_CID_ANY, port}, waiting)
	if err != nil {
		_ = unix.Close(fd) // the error to report is the first one
		return nil, err
	}
	return l, nil
}

func listen(fd int, a Addr, waiting int) (*Listener, error) {
	if err := unix.Bind(fd, &unix.SockaddrVM{CID: a.CID, Port: a.Port}); err != nil {
		return nil, failed("bind", err)
	}
	if err := unix.Listen(fd, waiting); err != nil {
		return nil, failed("listen", err)
	}
	l := &Listener{file: os.NewFile(uintptr(fd), network), addr: a}
	var err error
	if l.raw, err = l.file.SyscallConn(); err != nil {
		return nil, errors.Join(failed("listen", err), l.file.Close())
	}
	return l, nil
}

// Accept returns the next connection. Only the host may connect: whatever else there is
// is closed. Errors for want of descriptors or memory are temporary, as those of net.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		fd, peer, err := l.accept()
		if err != nil {
			return nil, failed("accept", err)
		}
		a, ok := peer.(*unix.SockaddrVM)
		if !ok || a.CID != unix.VMADDR_CID_HOST {
			_ = unix.Close(fd) // nobody's
			continue
		}
		return &conn{File: os.NewFile(uintptr(fd), network), local: l.addr, remote: Addr{a.CID, a.Port}}, nil
	}
}

// accept waits in Go's runtime, not in a thread.
func (l *Listener) accept() (fd int, peer unix.Sockaddr, err error) {
	waited := l.raw.Read(func(listener uintptr) bool {
		fd, peer, err = unix.Accept4(int(listener), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return !errors.Is(err, unix.EAGAIN)
	})
	if waited != nil {
		return -1, nil, net.ErrClosed
	}
	return fd, peer, err
}

// Close ends Accept. Connections live on.
func (l *Listener) Close() error { return l.file.Close() }

// Addr returns where the listener is.
func (l *Listener) Addr() net.Addr { return l.addr }

// conn is a connection; its file is a socket that never blocks a thread.
type conn struct {
	*os.File
	local, remote Addr
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// failed is an error as package net makes them.
func failed(op string, err error) error {
	if errors.Is(err, net.ErrClosed) {
		return &net.OpError{Op: op, Net: network, Err: net.ErrClosed}
	}
	return &net.OpError{Op: op, Net: network, Err: os.NewSyscallError(op, err)}
}
