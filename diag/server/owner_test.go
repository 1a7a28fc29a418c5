package server

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"keel/diag/diagpb"
	"keel/diag/owner"
)

// ownersKeys makes an owner.
func ownersKeys(t *testing.T) (*age.X25519Identity, owner.Keys, ed25519.PrivateKey, owner.Instance) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var k owner.Keys
	if k.Recipient, err = owner.ParseRecipient(id.Recipient().String()); err != nil {
		t.Fatal(err)
	}
	var private ed25519.PrivateKey
	if k.Signer, private, err = ed25519.GenerateKey(nil); err != nil {
		t.Fatal(err)
	}
	return id, k, private, owner.Instance{7, 8, 9}
}

// signedInspect makes Inspect a call that changes something, for a test.
func signedInspect(t *testing.T) {
	t.Helper()
	saved := rules
	t.Cleanup(func() { rules = saved })
	rules = map[string]access{"Owner/Nonce": saved["Owner/Nonce"], "Diag/Inspect": {rule: "control", release: true, owner: signed}}
}

// commander is an owner who commands a VM.
type commander struct {
	conn     *ttrpc.Client
	key      ed25519.PrivateKey
	instance owner.Instance
}

// nonce asks for a nonce.
func (c *commander) nonce(t *testing.T) (n owner.Nonce) {
	t.Helper()
	r, err := diagpb.NewOwnerClient(c.conn).Nonce(t.Context(), &diagpb.NonceRequest{})
	if err != nil || len(r.GetNonce()) != len(n) || r.GetSeconds() != 120 || owner.Instance(r.GetInstance()) != c.instance {
		t.Fatalf("%v, %v", r, err)
	}
	return owner.Nonce(r.GetNonce())
}

// statement is what to sign for a request.
func (c *commander) statement(n owner.Nonce, request proto.Message) *owner.Statement {
	b, _ := proto.Marshal(request)
	return &owner.Statement{Instance: c.instance, Nonce: n, Request: sha256.Sum256(b), Method: servicePrefix + "Diag/Inspect"}
}

// call makes a call with signed statements.
func (c *commander) call(t *testing.T, request *diagpb.InspectRequest, statements ...string) error {
	t.Helper()
	ctx := t.Context()
	if len(statements) > 0 {
		md := ttrpc.MD{}
		md.Set(owner.Metadata, statements...)
		ctx = ttrpc.WithMetadata(ctx, md)
	}
	_, err := diagpb.NewDiagClient(c.conn).Inspect(ctx, request)
	return err
}

// TestSigned: a call is let in once, with the owner's signature under all that it is.
// What is wrong is refused, each for its own reason.
func TestSigned(t *testing.T) {
	signedInspect(t)
	synctest.Test(t, func(t *testing.T) {
		_, keys, private, instance := ownersKeys(t)
		_, _, stranger, _ := ownersKeys(t)
		s, l := serve(t, Config{
			Root: node{text: "here"}, Confidential: true, Owner: keys, Instance: func() owner.Instance { return instance },
		})
		c := &commander{ttrpc.NewClient(l.connect()), private, instance}
		defer c.conn.Close()
		request := &diagpb.InspectRequest{Path: "text", Depth: 3}

		used := c.statement(c.nonce(t), request).Sign(private)
		if err := c.call(t, request, used); err != nil {
			t.Fatal(err)
		}
		old := c.statement(c.nonce(t), request).Sign(private)
		time.Sleep(nonceLife / 2)
		c.nonce(t) // the connection must not be idle for so long
		time.Sleep(nonceLife/2 + time.Second)
		another := c.statement(c.nonce(t), request)
		another.Method = servicePrefix + "Diag/Attest"
		elsewhere := c.statement(c.nonce(t), request)
		elsewhere.Instance[0]++
		fresh := func() string { return c.statement(c.nonce(t), request).Sign(private) }
		broken := fresh()
		broken = strings.ToUpper(broken[:10]) + "a" + broken[11:]
		refused := []struct {
			name       string
			request    *diagpb.InspectRequest
			statements []string
			why        string
		}{
			{"unsigned", request, nil, "its owner has not signed"},
			{"signed twice", request, []string{fresh(), fresh()}, "more than one signature"},
			{"empty", request, []string{""}, "malformed"},
			{"no statement", request, []string{"AAAA"}, "malformed"},
			{"replayed", request, []string{used}, "was used before"},
			{"too late", request, []string{old}, "too old"},
			{"of no nonce", request, []string{c.statement(owner.Nonce{}, request).Sign(private)}, "none of this VM's"},
			{"of a stranger", request, []string{c.statement(c.nonce(t), request).Sign(stranger)}, "another key"},
			{"broken", request, []string{broken}, "does not hold"},
			{"for another method", request, []string{another.Sign(private)}, "another method"},
			{"for another VM", request, []string{elsewhere.Sign(private)}, "another VM"},
			{"changed", &diagpb.InspectRequest{Path: "text", Depth: 4}, []string{fresh()}, "differs from the one"},
			{"emptied", &diagpb.InspectRequest{}, []string{fresh()}, "differs from the one"},
		}
		for _, r := range refused {
			before := s.Stats()
			err := c.call(t, r.request, r.statements...)
			message := status.Convert(err).Message()
			if status.Code(err) != codes.PermissionDenied || !strings.HasPrefix(message, "rule control refuses Diag/Inspect: ") || !strings.Contains(message, r.why) {
				t.Errorf("%s: %v", r.name, err)
			}
			if n := s.Stats(); n.Denied != before.Denied+1 || n.Signed != 1 {
				t.Errorf("%s: %+v", r.name, n)
			}
		}
		// A nonce that a statement of the owner spent on the wrong call is spent.
		if err := c.call(t, request, another.Sign(private)); !strings.Contains(err.Error(), "was used before") {
			t.Errorf("%v", err)
		}
	})
}

// TestSignedRace: of many who replay a call at the same time, one is let in.
func TestSignedRace(t *testing.T) {
	signedInspect(t)
	_, keys, private, _ := ownersKeys(t)
	s, l := serve(t, Config{Root: node{text: "here"}, Confidential: true, Owner: keys})
	c := &commander{conn: ttrpc.NewClient(l.connect()), key: private}
	defer c.conn.Close()
	request := &diagpb.InspectRequest{}
	statement := c.statement(c.nonce(t), request).Sign(private)
	done := make(chan error, 16)
	for range cap(done) {
		go func() { done <- c.call(t, request, statement) }()
	}
	in := 0
	for range cap(done) {
		if err := <-done; err == nil {
			in++
		} else if !strings.Contains(err.Error(), "was used before") {
			t.Error(err)
		}
	}
	if n := s.Stats(); in != 1 || n.Signed != 1 || n.Denied != uint64(cap(done)-1) {
		t.Errorf("%d were let in; %+v", in, n)
	}
}

// TestNonces: those that are outstanding are bounded, and the oldest is forgotten first.
func TestNonces(t *testing.T) {
	var n nonces
	first, second := n.give(), n.give()
	for range maxNonces - 1 {
		n.give()
	}
	if err := n.take(first); !errors.Is(err, errNonce) {
		t.Errorf("the oldest: %v", err)
	}
	if err := n.take(second); err != nil {
		t.Errorf("the second: %v", err)
	}
	if err := n.take(second); !errors.Is(err, errUsed) {
		t.Errorf("the second, again: %v", err)
	}
	if len(n.ring) != maxNonces {
		t.Errorf("%d are known", len(n.ring))
	}
	last := n.give()
	if last == second || n.take(last) != nil {
		t.Error("a new one")
	}
}

// TestNobodysNonce: without an owner there are no nonces, and a plain guest asks for none.
func TestNobodysNonce(t *testing.T) {
	signedInspect(t)
	_, keys, _, _ := ownersKeys(t)
	keys.Signer = nil
	for name, c := range map[string]Config{"plain": {}, "confidential": {Confidential: true, Owner: keys}} {
		c.Root = node{text: "here"}
		_, l := serve(t, c)
		conn := ttrpc.NewClient(l.connect())
		defer conn.Close()
		if _, err := diagpb.NewOwnerClient(conn).Nonce(t.Context(), &diagpb.NonceRequest{}); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: %v", name, err)
		}
		_, err := diagpb.NewDiagClient(conn).Inspect(t.Context(), &diagpb.InspectRequest{})
		if c.Confidential && !strings.Contains(status.Convert(err).Message(), "names no owner") || !c.Confidential && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRequestBytes: what the server digests is what was sent, byte for byte, whatever it
// means to the method.
func TestRequestBytes(t *testing.T) {
	signedInspect(t)
	_, keys, private, _ := ownersKeys(t)
	_, l := serve(t, Config{Root: node{text: "here"}, Confidential: true, Owner: keys})
	nonces := &commander{conn: ttrpc.NewClient(l.connect()), key: private}
	defer nonces.conn.Close()
	for _, payload := range []string{
		"", "\x10\x03", "\x10\x01\x10\x02", "\x0a\x04text\x10\x00", "\x10\x02\x0a\x04text", // fields twice, of zeros, out of order
		"\xa2\x06\x03abc\x0a\x04text", "\xa8\x06\x80\x01", // fields that the method does not know
	} {
		said := owner.Statement{Nonce: nonces.nonce(t), Request: sha256.Sum256([]byte(payload)), Method: servicePrefix + "Diag/Inspect"}
		r := &ttrpc.Request{
			Service: servicePrefix + "Diag", Method: "Inspect", Payload: []byte(payload),
			Metadata: []*ttrpc.KeyValue{{Key: owner.Metadata, Value: said.Sign(private)}},
		}
		if got := sendRequest(t, l.connect(), r); got != codes.OK {
			t.Errorf("%q: %v", payload, got)
		}
	}
}

// sendRequest sends a request as it stands.
func sendRequest(t *testing.T, c net.Conn, r *ttrpc.Request) codes.Code {
	t.Helper()
	defer c.Close()
	b, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return code(t, c, raw(1, 1, b))
}
