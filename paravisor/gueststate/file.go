package gueststate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"keel/boot/handoff"
	"keel/translate/blk"
)

// File is a state disk in a file or a block device of the host's, for its tools. While
// it is open no VM can start with it.
type File struct {
	f    *os.File
	size int64 // bytes, the last block may not be whole
	info blk.Info
}

var _ blk.Disk = (*File)(nil)

// fileBlock is the smallest block that a disk may have, in bytes: a file shows no others.
const fileBlock = 512

// OpenFile opens a state disk and refuses one that a VM uses. Its errors are of type
// *handoff.Failure.
func OpenFile(path string, write bool) (*File, error) {
	mode := os.O_RDONLY
	if write {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(path, mode|unix.O_NONBLOCK, 0)
	if err != nil {
		remedy := "name a file that exists"
		if errors.Is(err, fs.ErrPermission) {
			remedy = "make it readable and writable"
		}
		return nil, &handoff.Failure{Outcome: handoff.OutcomeBadState, Cause: "cannot open the state disk", Err: err, Remedy: remedy}
	}
	d := &File{f: f}
	if err := d.check(path, write); err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

func (d *File) check(path string, write bool) error {
	bad := func(remedy, format string, args ...any) error {
		return &handoff.Failure{Outcome: handoff.OutcomeBadState, Cause: fmt.Sprintf(format, args...), Remedy: remedy}
	}
	s, err := d.f.Stat()
	if err != nil {
		return bad("use an image file or a block device", "%v", err)
	}
	if m := s.Mode(); !m.IsRegular() && (m&fs.ModeDevice == 0 || m&fs.ModeCharDevice != 0) {
		return bad("use an image file or a block device", "%s is neither", path)
	}
	if d.size, err = d.f.Seek(0, io.SeekEnd); err != nil {
		return bad("use an image file or a block device", "%v", err)
	}
	d.info = blk.Info{
		Blocks: uint64(d.size) / fileBlock, BlockSize: fileBlock, PhysicalSize: fileBlock, ReadOnly: !write,
		Volatile: true, DiscardUnit: 1, MaxRanges: 1,
	}
	if !d.lock(write) {
		return bad("end the VM that uses it", "%s is locked by another process", path)
	}
	return nil
}

// Bytes that QEMU locks in an image that it has open (block/file-posix.c): from permBase
// on what it does itself, from sharedBase on what it lets nobody do.
const (
	permBase   = 100
	sharedBase = 200
	permRead   = 0 // consistently
	permWrite  = 1
)

// lock takes the locks that QEMU would take, and tells whether they go together with
// those of others. The locks go with the file.
func (d *File) lock(write bool) bool {
	mine, others := []int64{permBase + permRead, sharedBase + permWrite}, []int64{permBase + permWrite}
	if write {
		mine, others = append(mine, permBase+permWrite), append(others, sharedBase+permWrite)
	}
	for _, at := range mine {
		l := unix.Flock_t{Type: unix.F_RDLCK, Start: at, Len: 1}
		if unix.FcntlFlock(d.f.Fd(), unix.F_OFD_SETLK, &l) != nil {
			return false
		}
	}
	for _, at := range others {
		l := unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1} // meets the locks of others only
		if unix.FcntlFlock(d.f.Fd(), unix.F_OFD_GETLK, &l) != nil || l.Type != unix.F_UNLCK {
			return false
		}
	}
	return true
}

// Info describes the file.
func (d *File) Info() blk.Info { return d.info }

// Watch does nothing: a file stays.
func (d *File) Watch(func(blk.Event)) {}

// Cancel does nothing: Submit has completed the request.
func (d *File) Cancel(*blk.Request) {}

// Submit runs a request at once.
func (d *File) Submit(_ int, r *blk.Request) {
	err := r.Check(&d.info)
	at := int64(r.LBA) * fileBlock
	switch {
	case err != nil:
	case r.Op == blk.OpFlush:
		err = d.f.Sync()
	case r.Op == blk.OpRead, r.Op == blk.OpWrite:
		for _, s := range r.Segments {
			if r.Op == blk.OpRead {
				_, err = d.f.ReadAt(s.Data, at)
			} else {
				_, err = d.f.WriteAt(s.Data, at)
			}
			if err != nil {
				break
			}
			at += int64(len(s.Data))
		}
	default:
		err = blk.ErrUnsupported
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		err = fmt.Errorf("%w: %w", blk.ErrFull, err)
	case errors.Is(err, unix.EIO), errors.Is(err, io.EOF):
		err = fmt.Errorf("%w: %w", blk.ErrMedium, err)
	}
	r.Complete(err)
}

// Reader returns a reader of all of the disk.
func (d *File) Reader() io.Reader {
	return io.NewSectionReader(d.f, 0, d.size)
}

// Close closes the file.
func (d *File) Close() error { return d.f.Close() }
