package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"filippo.io/age"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"keel/diag/diagpb"
	"keel/diag/frame"
	"keel/diag/owner"
)

// piece is the type of a message of a stream: data, and a text that goes with it; and how
// many zeros follow.
func piece(t *testing.T) protoreflect.MessageType {
	t.Helper()
	field := func(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Type: &kind, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
	}
	f, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("piece.proto"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Piece"), Field: []*descriptorpb.FieldDescriptorProto{
			field("data", 1, descriptorpb.FieldDescriptorProto_TYPE_BYTES), field("text", 2, descriptorpb.FieldDescriptorProto_TYPE_STRING),
			field("zeros", 3, descriptorpb.FieldDescriptorProto_TYPE_UINT64),
		}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return dynamicpb.NewMessageType(f.Messages().Get(0))
}

// pieces follows the stream Test/Dump to its end and returns its data, and its code.
func pieces(t *testing.T, kind protoreflect.MessageType, l *listener) (data []byte, end codes.Code) {
	t.Helper()
	c := l.connect()
	defer c.Close()
	go c.Write(ask(1, "Test/Dump", &diagpb.NonceRequest{}))
	for {
		h, b, err := read(c)
		switch {
		case err != nil:
			t.Fatal(err)
		case h.Type == frame.Response:
			var r ttrpc.Response
			if err := proto.Unmarshal(b, &r); err != nil {
				t.Fatal(err)
			}
			return data, codes.Code(r.GetStatus().GetCode())
		case h.Flags&frame.NoData != 0:
			return data, codes.OK
		}
		m := kind.New()
		if err := proto.Unmarshal(b, m.Interface()); err != nil {
			t.Fatal(err)
		}
		fields := kind.Descriptor().Fields()
		if text := m.Get(fields.ByName("text")).String(); text != "" {
			data = append(data, text...)
		}
		if d := m.Get(fields.ByName("data")).Bytes(); len(d) > 65<<10 {
			t.Errorf("%d bytes in one message", len(d))
		} else {
			data = append(data, d...)
		}
		data = append(data, make([]byte, m.Get(fields.ByName("zeros")).Uint())...)
		if h.Ends() {
			return data, codes.OK
		}
	}
}

// TestSealed: of a confidential guest a stream leaves encrypted, whole, and without what
// goes with the data; one that fails has no end.
func TestSealed(t *testing.T) {
	saved := rules
	defer func() { rules = saved }()
	rules = map[string]access{"Test/Dump": {rule: "dump", release: true, owner: sealed}}
	id, keys, _, _ := ownersKeys(t)
	kind := piece(t)
	fields := kind.Descriptor().Fields()
	const secret, step, zeros = "the guest's secret.", 50000, 9000
	said := bytes.Repeat([]byte(secret), 9000)
	var plain []byte // what is said, with zeros behind each step
	for at := 0; at < len(said); at += step {
		plain = append(append(plain, said[at:min(at+step, len(said))]...), make([]byte, zeros)...)
	}
	start := func(t *testing.T, c Config, fail error) *listener {
		t.Helper()
		c.Root = node{}
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		s.register("Test", map[string]method{"Dump": stream(func(_ context.Context, _ *diagpb.NonceRequest, send func(*dynamicpb.Message) error) error {
			for at := 0; at < len(said); at += step {
				m := dynamicpb.NewMessage(kind.Descriptor())
				m.Set(fields.ByName("data"), protoreflect.ValueOfBytes(said[at:min(at+step, len(said))]))
				m.Set(fields.ByName("text"), protoreflect.ValueOfString("secret"))
				m.Set(fields.ByName("zeros"), protoreflect.ValueOfUint64(zeros))
				if err := send(m); err != nil {
					return err
				}
			}
			return fail
		})})
		return start(t, s)
	}
	t.Run("plain", func(t *testing.T) {
		data, end := pieces(t, kind, start(t, Config{Owner: keys}, nil))
		if end != codes.OK || !bytes.Contains(data, []byte(secret)) || bytes.HasPrefix(data, []byte(owner.Header)) {
			t.Errorf("%v, %.100q", end, data)
		}
	})
	t.Run("nobody's", func(t *testing.T) {
		if data, end := pieces(t, kind, start(t, Config{Confidential: true}, nil)); end != codes.PermissionDenied || len(data) > 0 {
			t.Errorf("%v, %.100q", end, data)
		}
	})
	for name, fail := range map[string]error{"sealed": nil, "cut off": errors.New("it failed")} {
		t.Run(name, func(t *testing.T) {
			data, end := pieces(t, kind, start(t, Config{Confidential: true, Owner: keys}, fail))
			if (end == codes.OK) != (fail == nil) || bytes.Contains(data, []byte("secret")) || !bytes.HasPrefix(data, []byte(owner.Header)) {
				t.Fatalf("%v, %.100q", end, data)
			}
			r, err := age.Decrypt(bytes.NewReader(data), id)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if (err == nil) != (fail == nil) || fail == nil && !bytes.Equal(got, plain) {
				t.Errorf("%d of %d bytes, %v", len(got), len(plain), err)
			}
		})
	}
}
