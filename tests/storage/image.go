package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// CreateImage makes an image of size bytes that takes no room.
func CreateImage(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// CopyImage copies an image and keeps its holes (lseek(2), SEEK_DATA).
func CopyImage(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if err := CreateImage(dst, st.Size()); err != nil {
		return err
	}
	out, err := os.OpenFile(dst, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	for at := int64(0); at < st.Size(); {
		begin, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // only a hole is left
			return nil
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(in.Fd()), begin, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(out, begin), io.NewSectionReader(in, begin, end-begin)); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// Allocated returns how much of an image takes room, in bytes.
func Allocated(path string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, err
	}
	return st.Blocks * 512, nil // in units of 512 bytes whatever the file system (stat(2))
}

// Stripe reads the images of a stripe as the disk that a guest sees: chunk after
// chunk, in turn from each image.
type Stripe struct {
	Parts []io.ReaderAt
	Chunk int64 // bytes
}

// ReadAt reads within one chunk after the other.
func (s Stripe) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		chunk, within := off/s.Chunk, off%s.Chunk
		count := min(int64(len(p)-n), s.Chunk-within)
		part := s.Parts[chunk%int64(len(s.Parts))]
		got, err := part.ReadAt(p[n:n+int(count)], chunk/int64(len(s.Parts))*s.Chunk+within)
		n, off = n+got, off+int64(got)
		if int64(got) < count {
			return n, err
		}
	}
	return n, nil
}

// Sum returns the SHA-256 of the first bytes of a disk, in hex.
func Sum(disk io.ReaderAt, bytes int64) (string, error) {
	h := sha256.New()
	if n, err := io.Copy(h, io.NewSectionReader(disk, 0, bytes)); err != nil || n != bytes {
		return "", fmt.Errorf("%d of %d bytes: %w", n, bytes, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
