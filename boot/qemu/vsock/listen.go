package vsock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrSocket says that the socket for clients cannot be made.
var ErrSocket = errors.New("vsock socket")

// abstract begins the path of a socket that has a name and no file (unix(7)).
const abstract = "@"

// maxPath leaves room for "_" and a port in a socket's address, and for its end.
const maxPath = len(unix.RawSockaddrUnix{}.Path) - len("_4294967295") - 1

// waiting is how many clients may wait to be accepted.
const waiting = 128

// socketFile is a listening Unix socket.
type socketFile struct {
	fd   int
	path string
	file unix.Stat_t // to know it again
}

// listen makes the socket. Launchers that do so in the same folder take turns, so
// that none takes another one's fresh socket for a dead one's. An abstract socket
// dies with its process: there is nothing to clear, and a second one of the same
// name is refused with EADDRINUSE.
func listen(path string) (*socketFile, error) {
	if len(path) == 0 || len(path) > maxPath {
		return nil, fmt.Errorf("%w: the path %q has %d bytes: use 1 to %d", ErrSocket, path, len(path), maxPath)
	}
	if strings.HasPrefix(path, abstract) {
		return open(path)
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSocket, err)
	}
	defer folder.Close() // and let the next one in
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("%w: locking %s: %w", ErrSocket, folder.Name(), err)
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	return open(path)
}

func open(path string) (*socketFile, error) {
	s := &socketFile{path: path}
	if err := s.open(); err != nil {
		closeFD(&s.fd)
		return nil, fmt.Errorf("%w: %s: %w", ErrSocket, path, err)
	}
	return s, nil
}

// open binds the socket. Nobody can connect before it listens, and by then it has
// its mode.
func (s *socketFile) open() (err error) {
	if s.fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	if err := unix.Bind(s.fd, &unix.SockaddrUnix{Name: s.path}); err != nil {
		return err
	}
	if strings.HasPrefix(s.path, abstract) {
		return unix.Listen(s.fd, waiting)
	}
	err = unix.Chmod(s.path, 0o600)
	if err == nil {
		err = unix.Lstat(s.path, &s.file)
	}
	if err == nil {
		err = unix.Listen(s.fd, waiting)
	}
	if err != nil {
		_ = unix.Unlink(s.path) // the error to report is the first one
	}
	return err
}

// remove takes the socket's file away, unless it is another one's by now.
func (s *socketFile) remove() error {
	var now unix.Stat_t
	if s.file.Ino == 0 || unix.Lstat(s.path, &now) != nil || now.Ino != s.file.Ino || now.Dev != s.file.Dev {
		return nil
	}
	s.file.Ino = 0
	return unix.Unlink(s.path)
}

// clearStale removes the socket of a process that is gone.
func clearStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", ErrSocket, err)
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%w: %s is not a socket: choose another path", ErrSocket, path)
	}
	fd, err := dial(path)
	switch {
	case err == nil, errors.Is(err, unix.EAGAIN):
		closeFD(&fd)
		return fmt.Errorf("%w: %s belongs to a running VM: choose another path, or end that VM", ErrSocket, path)
	case !errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("%w: %s: %w", ErrSocket, path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("%w: %w", ErrSocket, err)
	}
	return nil
}

// friend tells whether the process at the other end of a Unix socket is of this user
// or root: an abstract name has no permissions, anybody may connect to it or have it.
func friend(fd int) bool {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Getuid())
}
