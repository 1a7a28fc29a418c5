package vsock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Errors of Dial.
var (
	// ErrNoSocket says that there is no such socket, or nobody behind it: no VM.
	ErrNoSocket = errors.New("no VM listens")
	// ErrNoPort says that the VM, or its launcher, has refused the connection: nobody
	// listens on the port.
	ErrNoPort = errors.New("nobody listens in the VM")
	// ErrHandshake says that what answers speaks another protocol, or nothing in time.
	ErrHandshake = errors.New("not a hybrid vsock")
)

const (
	handshakePatience = 10 * time.Second
	maxAnswer         = 32  // bytes of the answer to CONNECT
	abstract          = "@" // begins an abstract name (unix(7))
)

// Dial connects to a port in a VM, through the hybrid socket of its launcher: a path, or
// an abstract name that begins with @. Who has an abstract name must be this user or
// root. Errors: ErrNoSocket, ErrNoPort, ErrHandshake.
func Dial(ctx context.Context, path string, port uint32) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakePatience)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
	case ctx.Err() != nil, errors.Is(err, unix.EAGAIN): // EAGAIN: too many wait already
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	default:
		return nil, fmt.Errorf("%w: %w", ErrNoSocket, err)
	}
	if err := handshake(ctx, c, path, port); err != nil {
		_ = c.Close() // the error to report is the first one
		return nil, err
	}
	return c, nil
}

func handshake(ctx context.Context, c net.Conn, path string, port uint32) error {
	if strings.HasPrefix(path, abstract) && !friend(c) {
		return fmt.Errorf("%w: %s belongs to another user", ErrNoSocket, path)
	}
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	// A context that ends earlier ends what waits for the socket.
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := fmt.Fprintf(c, "CONNECT %d\n", port)
	if err == nil {
		err = readAnswer(c)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrHandshake, context.Cause(ctx))
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return fmt.Errorf("%w: port %d", ErrNoPort, port)
	default:
		return fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	if !stop() {
		return fmt.Errorf("%w: %w", ErrHandshake, context.Cause(ctx)) // the deadline is, or will be, another one
	}
	return c.SetDeadline(time.Time{})
}

// readAnswer reads "OK <port>\n", a byte at a time: what follows is the VM's.
func readAnswer(r io.Reader) error {
	line := make([]byte, 0, maxAnswer)
	for !bytes.HasSuffix(line, []byte("\n")) {
		if len(line) == maxAnswer {
			return fmt.Errorf("the answer to CONNECT begins with %q", line)
		}
		if _, err := io.ReadFull(r, line[len(line):len(line)+1]); err != nil {
			return err
		}
		line = line[:len(line)+1]
	}
	if !bytes.HasPrefix(line, []byte("OK ")) {
		return fmt.Errorf("the answer to CONNECT is %q", line)
	}
	return nil
}

// friend tells whether the other end is of this user or of root.
func friend(c net.Conn) bool {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return false
	}
	return cred.Uid == 0 || int(cred.Uid) == os.Getuid()
}
