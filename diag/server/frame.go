package server

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Frames of ttrpc (github.com/containerd/ttrpc PROTOCOL.md): length of the data in 4
// bytes and stream identifier in 4, both big-endian, type and flags in one byte each,
// then the data.
const (
	headBytes = 10

	frameRequest  = 1
	frameResponse = 2
)

// Bounds of what a client may send.
const (
	maxRequest  = 8 << 10 // bytes of a frame's data; a path and a nonce are far shorter
	maxRequests = 1 << 14 // of one connection, after which the client connects anew
	maxUnderWay = 4       // requests of one connection that have no answer yet
)

// errFrame says that a client sent what is no request.
var errFrame = errors.New("malformed frame")

// checkHead checks the head of a client's frame and returns how many bytes follow. Only
// requests are allowed: the service has no streams, and ttrpc's server does not survive
// data for a stream that is none.
func checkHead(head *[headBytes]byte) (int, error) {
	length := binary.BigEndian.Uint32(head[:])
	switch {
	case head[8] != frameRequest:
		return 0, fmt.Errorf("%w: type %d", errFrame, head[8])
	case length > maxRequest:
		return 0, fmt.Errorf("%w: %d bytes, at most %d are read", errFrame, length, maxRequest)
	}
	return int(length), nil
}

// answers counts responses in what our own side writes, in whatever pieces.
type answers struct {
	head [headBytes]byte
	have int    // bytes of head
	left uint32 // bytes of data that follow a whole head
}

// count returns how many responses begin in b.
func (a *answers) count(b []byte) (n int) {
	for len(b) > 0 {
		if a.left > 0 {
			skip := min(int64(a.left), int64(len(b)))
			a.left -= uint32(skip)
			b = b[skip:]
			continue
		}
		took := copy(a.head[a.have:], b)
		a.have += took
		b = b[took:]
		if a.have < headBytes {
			return n
		}
		a.have, a.left = 0, binary.BigEndian.Uint32(a.head[:])
		if a.head[8] == frameResponse {
			n++
		}
	}
	return n
}
