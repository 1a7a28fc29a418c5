package server

import (
	"context"
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keel/diag/diagpb"
)

// Bounds of ReadFile.
const (
	maxFilePath = 1024      // bytes of a path
	maxFile     = 256 << 20 // bytes of a file
)

// ReadFile reads a regular file. Links are followed; nothing else is opened, for to open a
// device, or a pipe, does something.
func (s programs) ReadFile(ctx context.Context, r *diagpb.ReadFileRequest, send func(*diagpb.FilePiece) error) error {
	name := r.GetPath()
	if len(name) > maxFilePath || !path.IsAbs(name) {
		return status.Errorf(codes.InvalidArgument, "the path %.100q: give an absolute one of at most %d bytes", name, maxFilePath)
	}
	fd, err := openFile(name)
	if err != nil {
		return fileError(name, err)
	}
	defer unix.Close(fd)
	buf := make([]byte, pieceBytes)
	for total := 0; ; {
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN: // what would be there later, as in /proc/kmsg
			return nil
		case err != nil:
			return fileError(name, err)
		case n == 0:
			return nil
		}
		if total += n; total > maxFile {
			return send(&diagpb.FilePiece{Cut: fmt.Sprintf("it is longer than %d bytes", maxFile)})
		}
		if err := send(&diagpb.FilePiece{Data: buf[:n]}); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

var (
	errFolder = errors.New("it is a folder")
	errNoFile = errors.New("it is no regular file")
)

// openFile opens a regular file, once it is known to be one. Reads of it do not wait for
// what is not there.
func openFile(name string) (int, error) {
	at, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return 0, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return 0, errFolder
	default:
		return 0, errNoFile
	}
	return unix.Open(fmt.Sprintf("/proc/self/fd/%d", at), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
}

// fileError says why a file cannot be read.
func fileError(name string, err error) error {
	code := codes.InvalidArgument
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		code = codes.NotFound
	}
	return status.Errorf(code, "%q cannot be read: %v", name, err)
}
