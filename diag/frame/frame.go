// Package frame is the frames of ttrpc (github.com/containerd/ttrpc PROTOCOL.md) as both
// ends of the diagnostics check them themselves.
package frame

import "encoding/binary"

// HeadBytes is the length of a frame's head: the length of its data in 4 bytes and the
// stream in 4, both big-endian, type and flags in one byte each.
const HeadBytes = 10

// Types of frames.
const (
	Request  = 1
	Response = 2 // ends a stream
	Data     = 3
)

// Flags of frames.
const (
	RemoteClosed = 1 << 0 // who sends it sends no more data
	RemoteOpen   = 1 << 1 // of a request: data of the client follow
	NoData       = 1 << 2 // there is no message in the frame
)

// MaxMessage is the most bytes of a message that the service sends.
const MaxMessage = 256 << 10

// Head is the head of a frame.
type Head struct {
	Length uint32 // of the data, in bytes
	Stream uint32
	Type   byte
	Flags  byte
}

// Ends tells whether a frame of the server's is the last one of its stream.
func (h Head) Ends() bool {
	return h.Type == Response || h.Type == Data && h.Flags&RemoteClosed != 0
}

// Parse reads a head.
func Parse(b *[HeadBytes]byte) Head {
	return Head{Length: binary.BigEndian.Uint32(b[:]), Stream: binary.BigEndian.Uint32(b[4:]), Type: b[8], Flags: b[9]}
}

// Append appends a frame with data; the head's length is that of the data.
func Append(b []byte, h Head, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	b = binary.BigEndian.AppendUint32(b, h.Stream)
	return append(append(b, h.Type, h.Flags), data...)
}
