package server

import (
	"bufio"
	"fmt"
	"io"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"keel/diag/owner"
)

// sealable is a stream of answers that can be encrypted to the owner. Of the messages only
// the file of which they are the pieces counts then. Encrypted, it goes on in messages of
// the same type.
//
// The host learns how much there is, and when. A method whose file is longer or shorter
// for what is in it, compressed for example, tells of that.
type sealable struct {
	ttrpc.StreamServer
	recipient *owner.Recipient // nil: nothing is encrypted
	kind      protoreflect.MessageType
	buffer    *bufio.Writer // gathers the header, which is written in small pieces
	sealed    io.WriteCloser
}

// SendMsg sends a message, or encrypts its data.
func (s *sealable) SendMsg(m any) error {
	if s.recipient == nil {
		return s.StreamServer.SendMsg(m)
	}
	message, ok := m.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no message", m)
	}
	said := message.ProtoReflect()
	if s.sealed == nil {
		s.kind = said.Type()
		s.buffer = bufio.NewWriterSize(sealedWriter{s}, 512)
		var err error
		if s.sealed, err = s.recipient.Seal(s.buffer); err != nil {
			return err
		}
	}
	if _, err := s.sealed.Write(said.Get(dataOf(said.Descriptor())).Bytes()); err != nil {
		return err
	}
	zeros := uint64(0)
	if f := said.Descriptor().Fields().ByName(zerosField); f != nil {
		zeros = said.Get(f).Uint()
	}
	for zeros > 0 {
		n := min(zeros, uint64(len(zeroBytes)))
		if _, err := s.sealed.Write(zeroBytes[:n]); err != nil {
			return err
		}
		zeros -= n
	}
	return nil
}

// zerosField names the field of a message that says how many zeros follow its data.
const zerosField protoreflect.Name = "zeros"

var zeroBytes [4 << 10]byte

// dataOf returns the field of a message with the next bytes of a file: the only one of
// type bytes. It is nil if there is none.
func dataOf(m protoreflect.MessageDescriptor) (data protoreflect.FieldDescriptor) {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		switch {
		case f.Kind() != protoreflect.BytesKind:
		case data != nil || f.IsList():
			return nil
		default:
			data = f
		}
	}
	return data
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
	return s.buffer.Flush()
}

// sealedWriter sends what is encrypted. A message is on its way when SendMsg returns: the
// bytes may change then.
type sealedWriter struct{ *sealable }

func (w sealedWriter) Write(b []byte) (int, error) {
	m := w.kind.New()
	m.Set(dataOf(m.Descriptor()), protoreflect.ValueOfBytes(b))
	if err := w.StreamServer.SendMsg(m.Interface()); err != nil {
		return 0, err
	}
	return len(b), nil
}
