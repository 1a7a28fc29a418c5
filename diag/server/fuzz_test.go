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
	"keel/diag/frame"
)

// FuzzServer lets a client send whatever it likes. The server answers in whole frames,
// ends no more streams than there were requests, or twice as many if their time had passed
// before, ends the connection when the client does, and serves the next one.
func FuzzServer(f *testing.F) {
	inspect := request(1, "Inspect", &diagpb.InspectRequest{Path: "text", Depth: 3})
	f.Add(inspect)
	f.Add(append(append([]byte{}, inspect...), request(3, "Attest", &diagpb.AttestRequest{Nonce: make([]byte, 16)})...))
	f.Add(append(append([]byte{}, inspect...), raw(3, 1, []byte("data"))...))
	f.Add(append(append([]byte{}, inspect...), inspect...)) // a stream that is used again
	f.Add(request(2, "Inspect", &diagpb.InspectRequest{}))  // an even stream
	f.Add(watch(1, MinInterval))
	f.Add(append(watch(1, MinInterval), inspect...)) // a stream before the last
	f.Add(slices.Concat(watch(1, 0), request(3, "Inspect", &diagpb.InspectRequest{Depth: 1}), watch(5, 0), watch(7, 0), watch(9, 0)))
	f.Add(slices.Concat(late(1), late(3), late(5), late(7), late(9), watch(11, 0)))
	f.Add(frame.Append(nil, frame.Head{Stream: 1, Type: frame.Request, Flags: frame.RemoteOpen}, nil))
	f.Add(request(1, "Unheard", &diagpb.InspectRequest{}))
	f.Add(raw(frame.Request, 1, []byte("\xff\xff\xff")))
	f.Add(raw(frame.Request, 0xffffffff, nil))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 0})
	f.Fuzz(func(t *testing.T, sent []byte) {
		s, err := New(Config{Root: node{text: "here"}})
		if err != nil {
			t.Fatal(err)
		}
		s.times.idle = time.Second // a client whose streams do not end is dropped then
		l := start(t, s)
		c := l.connect()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		go func() {
			c.Write(sent)
			c.Write(end)
			c.Close()
		}()
		answers := 0
		for {
			h, _, err := read(c)
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("%v", err)
				}
				break
			}
			if h.Ends() {
				answers++
			}
		}
		if most := 2 * heads(slices.Concat(sent, end)); answers > most {
			t.Errorf("%d ends of streams, at most %d of them", answers, most)
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
var end = make([]byte, frame.HeadBytes)

// heads counts the requests in what a client sends, whole or not, up to the first frame
// that is none.
func heads(b []byte) (n int) {
	for len(b) >= frame.HeadBytes && b[8] == frame.Request {
		n++
		b = b[min(int64(len(b)), frame.HeadBytes+int64(binary.BigEndian.Uint32(b))):]
	}
	return n
}
