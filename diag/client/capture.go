package client

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"keel/diag/diagpb"
	"keel/diag/pcapng"
)

// CaptureOptions say what is captured.
type CaptureOptions struct {
	// Disk is a disk as the state tree names it beneath "disks"; empty for all that there
	// are now.
	Disk string
	// Data is how many bytes of the data of each SCSI command come with it, at most 4096.
	Data int
	// Length is how long the capture goes on, in whole seconds, at most a day; 0 for a day.
	Length time.Duration
}

// Piece is a part of a capture.
type Piece struct {
	PCAPNG        []byte // whole blocks of a pcapng file, or some of an age file
	Records, Lost uint64 // so far; the lost ones are among the records
}

// PacketCapture captures what crosses the disks of a guest, and hands the pieces of a
// pcapng file to each, in order, until its time is over, each fails, or ctx ends. What the
// file says is the VM's word; the client has seen that its blocks are whole. Of a
// confidential guest it is an age file, for the owner, of which nothing else is known. Errors:
// ErrRequest, ErrPath, ErrRefused, ErrBusy, ErrUnknown, ErrAnswer, ErrLost, and those of
// each and of ctx.
func (c *Client) PacketCapture(ctx context.Context, o CaptureOptions, each func(Piece) error) error {
	switch {
	case !utf8.ValidString(o.Disk):
		return fmt.Errorf("%w: the disk %q is no UTF-8", ErrRequest, o.Disk)
	case o.Data < 0 || o.Data > 1<<30:
		return fmt.Errorf("%w: %d bytes of data", ErrRequest, o.Data)
	case o.Length < 0 || o.Length > 1<<30*time.Second || o.Length%time.Second != 0:
		return fmt.Errorf("%w: a length of %v", ErrRequest, o.Length)
	}
	request := &diagpb.PacketCaptureRequest{Disk: o.Disk, DataBytes: uint32(o.Data), Seconds: uint32(o.Length / time.Second)}
	sealed, first := false, true
	return follow(ctx, c, "Capture/PacketCapture", request, func(p *diagpb.PacketCaptureResponse) error {
		sealed = sealed || first && Sealed(p.GetPcapng())
		first = false
		if sealed {
			return each(Piece{PCAPNG: p.GetPcapng()})
		}
		if _, err := pcapng.Split(p.GetPcapng()); err != nil {
			return fmt.Errorf("%w: %w", ErrAnswer, err)
		}
		return each(Piece{p.GetPcapng(), p.GetRecords(), p.GetLost()})
	})
}
