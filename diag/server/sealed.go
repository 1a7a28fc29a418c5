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

// sealedField is the field of a message that leaves the VM when a stream is sealed.
const sealedField protoreflect.Name = "data"

// sealable is a stream of answers that can be encrypted to the owner. Of the messages
// then only the field data counts; encrypted, it goes on in messages of the same type.
// What the host learns is how much there is, and when: nobody seals what was compressed,
// or has a length that tells.
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
	_, err := s.sealed.Write(said.Get(dataOf(said.Descriptor())).Bytes())
	return err
}

// dataOf returns the field that leaves the VM, nil if a message has none.
func dataOf(m protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	f := m.Fields().ByName(sealedField)
	if f == nil || f.Kind() != protoreflect.BytesKind || f.IsList() {
		return nil
	}
	return f
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
