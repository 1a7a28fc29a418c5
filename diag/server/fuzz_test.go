package server

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"keel/diag/diagpb"
)

// FuzzServer lets a client send whatever it likes. The server answers in whole frames,
// no more of them than there were requests, ends the connection when the client does,
// and serves the next one.
func FuzzServer(f *testing.F) {
	inspect := request(1, "Inspect", &diagpb.InspectRequest{Path: "text", Depth: 3})
	f.Add(inspect)
	f.Add(append(append([]byte{}, inspect...), request(3, "Attest", &diagpb.AttestRequest{Nonce: make([]byte, 16)})...))
	f.Add(append(append([]byte{}, inspect...), raw(3, 1, []byte("data"))...))
	f.Add(append(append([]byte{}, inspect...), inspect...)) // a stream that is used again
	f.Add(request(2, "Inspect", &diagpb.InspectRequest{}))  // an even stream
	f.Add(request(1, "Unheard", &diagpb.InspectRequest{}))
	f.Add(raw(frameRequest, 1, []byte("\xff\xff\xff")))
	f.Add(raw(frameRequest, 0xffffffff, nil))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 0})
	f.Fuzz(func(t *testing.T, sent []byte) {
		s, l := serve(t, Config{Root: node{text: "here"}})
		c := l.connect()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		go func() {
			c.Write(sent)
			c.Write(end)
			c.Close()
		}()
		answers := 0
		for {
			if _, _, err := answer(c); err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("%v", err)
				}
				break
			}
			answers++
		}
		if most := heads(slices.Concat(sent, end)); answers > most {
			t.Errorf("%d answers to %d requests", answers, most)
		}
		next := l.connect()
		next.SetDeadline(time.Now().Add(10 * time.Second))
		if got := code(t, next, request(1, "Inspect", &diagpb.InspectRequest{})); got != codes.OK {
			t.Errorf("%v", got)
		}
		next.Close()
		if n := s.Stats(); n.Clients != 2 || n.Requests > uint64(answers)+1+maxUnderWay {
			t.Errorf("%+v after %d answers", n, answers)
		}
	})
}

// end is a frame of no type: it ends a connection, unless it is the rest of another one.
var end = make([]byte, headBytes)

// heads counts the requests in what a client sends, whole or not, up to the first frame
// that is none.
func heads(b []byte) (n int) {
	for len(b) >= headBytes && b[8] == frameRequest {
		n++
		b = b[min(int64(len(b)), headBytes+int64(binary.BigEndian.Uint32(b))):]
	}
	return n
}
