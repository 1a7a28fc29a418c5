package server

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keel/diag/diagpb"
)

// Bounds of captures.
const (
	// MaxCaptureData is the most data that comes with a command, in bytes.
	MaxCaptureData = 4096
	// MaxCapture is how long a capture goes on.
	MaxCapture = 24 * time.Hour
)

// Errors of Config.Capture.
var (
	ErrNoDisk    = errors.New("the guest has no such disk")
	ErrCapturing = errors.New("another capture is under way")
)

// Piece is a part of a capture.
type Piece struct {
	PCAPNG        []byte // whole blocks of the file, until send returns
	Records, Lost uint64 // so far
}

// Capture captures a disk, or all of them if it has no name, with so many bytes of data of
// each command, until ctx ends or send fails. An end of ctx is no error. Other errors wrap
// ErrNoDisk or ErrCapturing.
type Capture func(ctx context.Context, disk string, data int, send func(Piece) error) error

// captures are the methods of keel.diag.v1.Capture.
type captures struct{ *Server }

func (s captures) methods() map[string]method {
	return map[string]method{"PacketCapture": stream(s.PacketCapture)}
}

// PacketCapture sends a capture.
func (s captures) PacketCapture(ctx context.Context, r *diagpb.PacketCaptureRequest, send func(*diagpb.PacketCaptureResponse) error) error {
	length := time.Duration(r.GetSeconds()) * time.Second
	switch {
	case s.config.Capture == nil:
		return status.Error(codes.FailedPrecondition, "the guest was started without disks")
	case len(r.GetDisk()) > MaxPath:
		return status.Errorf(codes.InvalidArgument, "a name of %d bytes: at most %d are read", len(r.GetDisk()), MaxPath)
	case r.GetDataBytes() > MaxCaptureData:
		return status.Errorf(codes.InvalidArgument, "%d bytes of data: at most %d", r.GetDataBytes(), MaxCaptureData)
	case length > MaxCapture:
		return status.Errorf(codes.InvalidArgument, "%v: at most %v", length, MaxCapture)
	case length == 0:
		length = MaxCapture
	}
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	err := s.config.Capture(ctx, r.GetDisk(), int(r.GetDataBytes()), func(p Piece) error {
		return send(&diagpb.PacketCaptureResponse{Pcapng: p.PCAPNG, Records: p.Records, Lost: p.Lost})
	})
	switch {
	case errors.Is(err, ErrNoDisk):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, ErrCapturing):
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	return err
}
