package server

import (
	"errors"
	"fmt"

	"keel/diag/frame"
)

// Bounds of what a client may send.
const (
	maxRequest  = 8 << 10 // bytes of a frame's data; a path and a nonce are far shorter
	maxRequests = 1 << 14 // of one connection, after which the client connects anew
	maxUnderWay = 4       // requests and streams of one connection that have not ended yet
)

// errFrame says that a client sent what is no request.
var errFrame = errors.New("malformed frame")

// checkHead checks the head of a client's frame. Only requests are allowed, none of which
// promises data: no method takes any, and ttrpc's server does not survive data for a
// stream that is none. Their streams ascend from last on and are odd.
func checkHead(h frame.Head, last uint32) error {
	switch {
	case h.Type != frame.Request:
		return fmt.Errorf("%w: type %d", errFrame, h.Type)
	case h.Flags&^frame.RemoteClosed != 0:
		return fmt.Errorf("%w: flags %#x", errFrame, h.Flags)
	case h.Length > maxRequest:
		return fmt.Errorf("%w: %d bytes, at most %d are read", errFrame, h.Length, maxRequest)
	case h.Stream%2 == 0 || h.Stream <= last:
		return fmt.Errorf("%w: stream %d after stream %d", errFrame, h.Stream, last)
	}
	return nil
}

// answers finds the ends of streams in what our own side writes, in whatever pieces.
type answers struct {
	head [frame.HeadBytes]byte
	have int    // bytes of head
	left uint32 // bytes of data that follow a whole head
}

// ends hands over the streams whose last frames begin in b.
func (a *answers) ends(b []byte, ended func(stream uint32)) {
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
		if a.have < frame.HeadBytes {
			return
		}
		h := frame.Parse(&a.head)
		a.have, a.left = 0, h.Length
		if h.Ends() {
			ended(h.Stream)
		}
	}
}
