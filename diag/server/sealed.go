package server

import (
	"bufio"
	"fmt"
	"io"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"

	"keel/diag/diagpb"
	"keel/diag/owner"
)

// piece is what a message has of a file.
type piece struct {
	data  []byte
	zeros uint64 // that follow the data
	cut   string // of the last piece: why the file is short. It tells nothing of what is in it.
}

// pieceOf takes a message apart. Only streams of such messages can be sealed: each type
// has a line here, and one in carry.
func pieceOf(m any) (p piece, ok bool) {
	switch m := m.(type) {
	case *diagpb.FilePiece:
		return piece{data: m.GetData(), zeros: m.GetZeros(), cut: m.GetCut()}, true
	case *diagpb.PacketCaptureResponse:
		return piece{data: m.GetPcapng()}, true
	}
	return piece{}, false
}

// carry returns a message of a type that pieceOf knows.
func carry(like any, data []byte, cut string) proto.Message {
	if _, ok := like.(*diagpb.PacketCaptureResponse); ok {
		return &diagpb.PacketCaptureResponse{Pcapng: data}
	}
	return &diagpb.FilePiece{Data: data, Cut: cut}
}

// sealable is a stream of answers that can be encrypted to the owner. Of the messages only
// the file of which they are the pieces counts then: holes are filled, and encrypted it
// goes on in messages of the same type.
//
// The host learns how much there is, and when. A file whose length depends on what is in
// it, such as one that is compressed, tells of that.
type sealable struct {
	ttrpc.StreamServer
	recipient *owner.Recipient // nil: nothing is encrypted
	like      any              // the first message
	buffer    *bufio.Writer    // gathers the header, which is written in small pieces
	sealed    io.WriteCloser
	cut       string
}

// SendMsg sends a message, or encrypts its piece of the file.
func (s *sealable) SendMsg(m any) error {
	if s.recipient == nil {
		return s.StreamServer.SendMsg(m)
	}
	p, ok := pieceOf(m)
	if !ok {
		return fmt.Errorf("a message of type %T cannot be sealed", m)
	}
	if s.sealed == nil {
		s.like = m
		s.buffer = bufio.NewWriterSize(sealedWriter{s}, 512)
		var err error
		if s.sealed, err = s.recipient.Seal(s.buffer); err != nil {
			return err
		}
	}
	if _, err := s.sealed.Write(p.data); err != nil {
		return err
	}
	s.cut = p.cut
	return s.zeros(p.zeros)
}

var zeroBytes [4 << 10]byte

// zeros adds zeros.
func (s *sealable) zeros(n uint64) error {
	for n > 0 {
		some := min(n, uint64(len(zeroBytes)))
		if _, err := s.sealed.Write(zeroBytes[:some]); err != nil {
			return err
		}
		n -= some
	}
	return nil
}

// finish sends the end of an encrypted stream: one without an end was cut off. A stream
// without messages stays empty.
func (s *sealable) finish() error {
	if s.sealed == nil {
		return nil
	}
	if err := s.sealed.Close(); err != nil {
		return err
	}
	if err := s.buffer.Flush(); err != nil || s.cut == "" {
		return err
	}
	return s.StreamServer.SendMsg(carry(s.like, nil, s.cut))
}

// sealedWriter sends what is encrypted. A message is on its way when SendMsg returns: the
// bytes may change then.
type sealedWriter struct{ *sealable }

func (w sealedWriter) Write(b []byte) (int, error) {
	if err := w.StreamServer.SendMsg(carry(w.like, b, "")); err != nil {
		return 0, err
	}
	return len(b), nil
}
