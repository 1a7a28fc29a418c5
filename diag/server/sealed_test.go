package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"keel/diag/diagpb"
	"keel/diag/frame"
	"keel/diag/owner"
)

// pieces follows the stream Test/Dump to its end and returns the file, why it is short,
// and the code of the end.
//
// What the end says must not be the guest's.
func pieces(t *testing.T, l *listener) (data []byte, cut string, end codes.Code) {
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
			if said := r.GetStatus().GetMessage(); strings.Contains(said, "secret") {
				t.Errorf("the end says %q", said)
			}
			return data, cut, codes.Code(r.GetStatus().GetCode())
		case h.Flags&frame.NoData != 0:
			return data, cut, codes.OK
		}
		var m diagpb.FilePiece
		if err := proto.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		if len(m.GetData()) > 65<<10 {
			t.Errorf("%d bytes in one message", len(m.GetData()))
		}
		data, cut = append(append(data, m.GetData()...), make([]byte, m.GetZeros())...), m.GetCut()
		if h.Ends() {
			return data, cut, codes.OK
		}
	}
}

// TestSealed: of a confidential guest a stream leaves encrypted, whole, without its holes;
// one that fails has no end.
func TestSealed(t *testing.T) {
	saved := rules
	defer func() { rules = saved }()
	rules = map[string]access{"Test/Dump": {rule: "dump", release: true, owner: sealed}}
	id, keys, _, _ := ownersKeys(t)
	const secret, step, zeros, short = "the guest's secret.", 50000, 9000, "it is too long"
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
		s.register("Test", map[string]method{"Dump": stream(func(_ context.Context, _ *diagpb.NonceRequest, send func(*diagpb.FilePiece) error) error {
			for at := 0; at < len(said); at += step {
				m := &diagpb.FilePiece{Data: said[at:min(at+step, len(said))], Zeros: zeros}
				if at+step >= len(said) {
					m.Cut = short
				}
				if err := send(m); err != nil {
					return err
				}
			}
			return fail
		})})
		return start(t, s)
	}
	t.Run("plain", func(t *testing.T) {
		if data, cut, end := pieces(t, start(t, Config{Owner: keys}, nil)); end != codes.OK || !bytes.Equal(data, plain) || cut != short {
			t.Errorf("%v, %.100q, %q", end, data, cut)
		}
	})
	t.Run("nobody's", func(t *testing.T) {
		if data, cut, end := pieces(t, start(t, Config{Confidential: true}, nil)); end != codes.PermissionDenied || len(data) > 0 || cut != "" {
			t.Errorf("%v, %.100q, %q", end, data, cut)
		}
	})
	for name, fail := range map[string]error{"sealed": nil, "cut off": errors.New("a secret of the guest's")} {
		t.Run(name, func(t *testing.T) {
			data, cut, end := pieces(t, start(t, Config{Confidential: true, Owner: keys}, fail))
			if (end == codes.OK) != (fail == nil) || bytes.Contains(data, []byte("secret")) || !bytes.HasPrefix(data, []byte(owner.Header)) {
				t.Fatalf("%v, %.100q", end, data)
			}
			if (cut == short) != (fail == nil) {
				t.Errorf("it is short: %q", cut)
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

// sent keeps what is sent to it.
type sent struct {
	ttrpc.StreamServer
	messages []any
}

func (s *sent) SendMsg(m any) error {
	s.messages = append(s.messages, proto.Clone(m.(proto.Message)))
	return nil
}

// TestSealedPieces: every type of message that can be sealed comes out as the file that it
// was. A file with holes is as long as without.
func TestSealedPieces(t *testing.T) {
	id, keys, _, _ := ownersKeys(t)
	for name, tt := range map[string]struct {
		messages []proto.Message
		want     string
	}{
		"file":    {[]proto.Message{&diagpb.FilePiece{Data: []byte("a"), Zeros: 5000}, &diagpb.FilePiece{Data: []byte("b")}}, "a" + strings.Repeat("\x00", 5000) + "b"},
		"capture": {[]proto.Message{&diagpb.PacketCaptureResponse{}, &diagpb.PacketCaptureResponse{Pcapng: []byte("ab"), Records: 7}}, "ab"},
	} {
		to := &sent{}
		s := &sealable{StreamServer: to, recipient: keys.Recipient}
		for _, m := range tt.messages {
			if err := s.SendMsg(m); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err := s.finish(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var file []byte
		for _, m := range to.messages {
			p, ok := pieceOf(m)
			if !ok || reflect.TypeOf(m) != reflect.TypeOf(any(tt.messages[0])) || p.zeros != 0 {
				t.Errorf("%s: %v", name, m)
			}
			file = append(file, p.data...)
		}
		r, err := age.Decrypt(bytes.NewReader(file), id)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, m := range []any{&diagpb.InspectResponse{}, "text"} {
		if err := (&sealable{StreamServer: &sent{}, recipient: keys.Recipient}).SendMsg(m); err == nil {
			t.Errorf("%v was sealed", m)
		}
	}
}
