// Package wire frames what the paravisor and the vTPM worker say to each other: one
// stream carries commands and their responses in turn, another carries cancels, so that
// one of these gets through while a command runs.
//
// Each side takes the other for hostile: every frame is bounded, a length that its kind
// does not allow ends the connection, and nothing is allocated before it was checked.
//
// A frame is a header of HeaderSize bytes, then body, permanent and volatile state. All
// numbers are little-endian:
//
//	0  u32 magic
//	4  u8  kind
//	5  u8  locality (Execute) or status (Done)
//	6  u8  effect (Execute), else 0
//	7  u8  zero
//	8  u64 sequence number; a Done or Cancel has that of its command
//	16 u32 length of the body
//	20 u32 length of the permanent state
//	24 u32 length of the volatile state
//	28 u32 zero
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// HeaderSize is the size of a frame without its parts, in bytes.
const HeaderSize = 32

// Bounds of a frame's parts, in bytes.
const (
	// MaxBody is the size of the largest command and response: the data buffer of the
	// CRB interface.
	MaxBody = 3968
	// MaxPermanent is above what libtpms saves with all of its NV in use, 143 kB.
	MaxPermanent = 256 << 10
	// MaxVolatile is above what libtpms saves, which counts these bytes in 16 bits.
	MaxVolatile = 64 << 10
)

// magic is "KTP" and the version of the framing. Package engine has it, too, and the
// layout of the header.
const magic = uint32('K') | 'T'<<8 | 'P'<<16 | 3<<24

// Kind says what a frame is.
type Kind uint8

// Kinds of frames.
const (
	// Init gives the TPM power, with the state that it carries. It is the first frame,
	// and the only one of its kind. A Done answers it.
	Init Kind = 1 + iota
	// Execute carries a command, and its Effect. A Done answers it.
	Execute
	// Cancel goes over the stream of cancels. Nothing answers it.
	Cancel
	// Done carries a response, and the states that differ from those that the
	// paravisor knows.
	Done
)

// Effect says what a command does to the volatile state, and so whether its Done carries
// that. It does in any case where the permanent state has changed.
type Effect uint8

// Effects.
const (
	// Changes: it may change the state.
	Changes Effect = iota
	// Repeats: where it succeeds the state is not needed. The paravisor gives a new worker
	// the state before, and the command again.
	Repeats
	// Keeps: it leaves the state as it was.
	Keeps
)

// Status says how an Init or Execute ended.
type Status uint8

// Statuses.
const (
	// OK: the TPM did what was asked. A command that it refused is OK too.
	OK Status = iota
	// BadState: the TPM does not accept the state of Init.
	BadState
	// Failed: the engine does not work.
	Failed
)

var (
	// ErrFrame says that the peer sent what no frame looks like.
	ErrFrame = errors.New("malformed frame")
	// ErrBounds says that a frame to be sent is larger than its bounds.
	ErrBounds = errors.New("frame out of bounds")
)

// Frame is a frame, its parts as slices.
type Frame struct {
	Kind      Kind
	Locality  uint8  // of Execute
	Effect    Effect // of Execute
	Status    Status // of Done
	Seq       uint64
	Body      []byte
	Permanent []byte // empty: none, or unchanged
	Volatile  []byte // empty: none, or unchanged
}

// bounds are the largest body, permanent and volatile state of each kind, and the
// largest locality or status.
var bounds = [...]struct{ arg, body, permanent, volatile int }{
	Init:    {0, 0, MaxPermanent, MaxVolatile},
	Execute: {4, MaxBody, 0, 0},
	Cancel:  {0, 0, 0, 0},
	Done:    {int(Failed), MaxBody, MaxPermanent, MaxVolatile},
}

// check tells whether a frame of a kind may have such parts.
func check(kind Kind, arg uint8, body, permanent, volatile int) bool {
	if kind < Init || int(kind) >= len(bounds) {
		return false
	}
	b := bounds[kind]
	return int(arg) <= b.arg && body <= b.body && permanent <= b.permanent && volatile <= b.volatile &&
		(kind != Execute || body > 0)
}

// of tells whether a frame of a kind may have the effect.
func (e Effect) of(kind Kind) bool { return e == Changes || e <= Keeps && kind == Execute }

// Append appends a frame to b.
func Append(b []byte, f *Frame) ([]byte, error) {
	arg := f.Locality
	if f.Kind == Done {
		arg = uint8(f.Status)
	}
	if !check(f.Kind, arg, len(f.Body), len(f.Permanent), len(f.Volatile)) || !f.Effect.of(f.Kind) {
		return b, fmt.Errorf("%w: kind %d, parts of %d, %d and %d bytes", ErrBounds, f.Kind, len(f.Body), len(f.Permanent), len(f.Volatile))
	}
	le := binary.LittleEndian
	b = le.AppendUint32(b, magic)
	b = append(b, uint8(f.Kind), arg, uint8(f.Effect), 0)
	b = le.AppendUint64(b, f.Seq)
	b = le.AppendUint32(b, uint32(len(f.Body)))
	b = le.AppendUint32(b, uint32(len(f.Permanent)))
	b = le.AppendUint32(b, uint32(len(f.Volatile)))
	b = le.AppendUint32(b, 0)
	b = append(b, f.Body...)
	b = append(b, f.Permanent...)
	return append(b, f.Volatile...), nil
}

// Reader reads frames from a stream.
type Reader struct {
	r    io.Reader
	buf  []byte // what was read
	have int    // bytes in buf that belong to the next frame
	last int    // size of the frame that Read returned
}

// NewReader returns a Reader that asks r for as much as it has room for, so that a
// small frame costs one call.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: r, buf: make([]byte, 16<<10)}
}

// Read reads the next frame. Its parts are valid until the next call. The error is
// io.EOF where the stream ends between frames, io.ErrUnexpectedEOF within one, and
// wraps ErrFrame where the peer broke the rules: do not read on then.
func (r *Reader) Read() (Frame, error) {
	r.have = copy(r.buf, r.buf[r.last:r.last+r.have])
	r.last = 0
	if err := r.fill(HeaderSize); err != nil {
		return Frame{}, err
	}
	f, size, err := header(r.buf[:HeaderSize])
	if err != nil {
		return Frame{}, err
	}
	total := HeaderSize + size[0] + size[1] + size[2]
	if err := r.fill(total); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	rest := r.buf[HeaderSize:total]
	f.Body, rest = rest[:size[0]:size[0]], rest[size[0]:]
	f.Permanent, f.Volatile = rest[:size[1]:size[1]], rest[size[1]:]
	r.last, r.have = total, r.have-total
	return f, nil
}

// header decodes and checks a header.
func header(b []byte) (f Frame, size [3]int, err error) {
	le := binary.LittleEndian
	for i := range size {
		n := le.Uint32(b[16+4*i:])
		if n > MaxPermanent {
			return f, size, fmt.Errorf("%w: a part of %d bytes", ErrFrame, n)
		}
		size[i] = int(n)
	}
	f = Frame{Kind: Kind(b[4]), Effect: Effect(b[6]), Seq: le.Uint64(b[8:])}
	switch {
	case le.Uint32(b) != magic || !f.Effect.of(f.Kind) || b[7] != 0 || le.Uint32(b[28:]) != 0:
		return f, size, fmt.Errorf("%w: header %x", ErrFrame, b)
	case !check(f.Kind, b[5], size[0], size[1], size[2]):
		return f, size, fmt.Errorf("%w: kind %d, parts of %d bytes", ErrFrame, f.Kind, size)
	case f.Kind == Done:
		f.Status = Status(b[5])
	default:
		f.Locality = b[5]
	}
	return f, size, nil
}

// fill reads until buf holds n bytes. The error is io.EOF where there are none at all.
func (r *Reader) fill(n int) error {
	if n > len(r.buf) {
		grown := make([]byte, n)
		copy(grown, r.buf[:r.have])
		r.buf = grown
	}
	for empty := 0; r.have < n; {
		got, err := r.r.Read(r.buf[r.have:])
		r.have += got
		switch {
		case r.have >= n:
		case errors.Is(err, io.EOF) && r.have > 0:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case got > 0:
			empty = 0
		default:
			if empty++; empty > maxEmptyReads {
				return io.ErrNoProgress
			}
		}
	}
	return nil
}

// maxEmptyReads bounds reads that return neither bytes nor an error.
const maxEmptyReads = 100
