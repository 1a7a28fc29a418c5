// Package kmsg reads the log of the Linux kernel beneath the paravisor (Linux
// Documentation/ABI/testing/dev-kmsg).
package kmsg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrRecord says that a record is none.
var ErrRecord = errors.New("malformed kernel log record")

// maxRecord is what the kernel makes of a record at most, in bytes (PRINTK_MESSAGE_MAX).
const maxRecord = 8 << 10

// Record is a message of the kernel's.
type Record struct {
	Level    uint8 // of syslog, 0 (the system is unusable) to 7 (debug)
	Facility uint32
	Seq      uint64        // counts up
	Time     time.Duration // since the kernel started
	Text     string
}

// Parse reads a record: fields of its head apart by commas, a semicolon, the text, and on
// further lines, which begin with a space, what belongs to it. Fields that a newer kernel
// adds are skipped.
func Parse(b []byte) (Record, error) {
	head, rest, ok := bytes.Cut(b, []byte(";"))
	fields := strings.Split(string(head), ",")
	if !ok || len(fields) < 4 {
		return Record{}, fmt.Errorf("%w: no head", ErrRecord)
	}
	priority, err := strconv.ParseUint(fields[0], 10, 32)
	if err != nil {
		return Record{}, fmt.Errorf("%w: priority", ErrRecord)
	}
	r := Record{Level: uint8(priority & 7), Facility: uint32(priority >> 3)}
	if r.Seq, err = strconv.ParseUint(fields[1], 10, 64); err != nil {
		return Record{}, fmt.Errorf("%w: sequence number", ErrRecord)
	}
	us, err := strconv.ParseUint(fields[2], 10, 63)
	if err != nil || us > uint64((1<<63-1)/time.Microsecond) {
		return Record{}, fmt.Errorf("%w: time", ErrRecord)
	}
	r.Time = time.Duration(us) * time.Microsecond
	text, _, _ := bytes.Cut(rest, []byte("\n"))
	r.Text = unescape(text)
	return r, nil
}

// unescape returns a text whose unprintable bytes are written as \xNN.
func unescape(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		if len(b) >= 4 && b[0] == '\\' && b[1] == 'x' {
			if v, err := strconv.ParseUint(string(b[2:4]), 16, 8); err == nil {
				out.WriteByte(byte(v))
				b = b[4:]
				continue
			}
		}
		out.WriteByte(b[0])
		b = b[1:]
	}
	return out.String()
}

// device is where the kernel hands out its log, to each reader from the beginning.
const device = "/dev/kmsg"

// Read hands the records of the kernel to each, oldest first, and goes on with new ones
// if it is to follow, until ctx ends or each fails. What the kernel has overwritten
// shows in the sequence numbers.
func Read(ctx context.Context, follow bool, each func(Record) error) error {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, maxRecord)
	for {
		n, err := next(f, buf, follow)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.EPIPE): // the next one was overwritten; the one after it comes
			continue
		case err != nil:
			return err
		case n == 0:
			return nil
		}
		r, err := Parse(buf[:n])
		if err == nil {
			err = each(r)
		}
		if err != nil {
			return err
		}
	}
}

// next reads one record, which takes one read. Without wait it returns 0 when there is
// none.
func next(f *os.File, buf []byte, wait bool) (int, error) {
	if wait {
		return f.Read(buf)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var read error
	if err := raw.Read(func(fd uintptr) bool {
		n, read = unix.Read(int(fd), buf)
		return true
	}); err != nil {
		return 0, err
	}
	if errors.Is(read, unix.EAGAIN) {
		return 0, nil
	}
	return max(n, 0), read
}
