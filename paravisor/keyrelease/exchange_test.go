package keyrelease

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// TestRelease has the key released over a pipe and over TCP.
func TestRelease(t *testing.T) {
	for name, ends := range map[string]func(testing.TB) (net.Conn, net.Conn){
		"pipe": func(testing.TB) (net.Conn, net.Conn) { return net.Pipe() }, "TCP": pair,
	} {
		t.Run(name, func(t *testing.T) {
			a, b := ends(t)
			served := make(chan error, 1)
			go func() { served <- release(b, signer, secret) }()
			key, err := client().Release(t.Context(), func(context.Context) (net.Conn, error) { return a, nil })
			if err != nil || !bytes.Equal(key, secret) {
				t.Errorf("%x, %v", key, err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTranscript: no two exchanges have a byte of the nonce, the sealed key or the
// signature in common but by chance, and the key is nowhere in what travels.
func TestTranscript(t *testing.T) {
	said := func() []byte {
		a, b := pair(t)
		heard := &tap{Conn: a}
		go release(b, signer, secret)
		if _, err := client().Exchange(t.Context(), heard); err != nil {
			t.Fatal(err)
		}
		return heard.read.Bytes()
	}
	first, second := said(), said()
	if len(first) != len(second) || bytes.Contains(first, secret[:8]) {
		t.Fatalf("%d and %d bytes, or the key in the clear", len(first), len(second))
	}
	const chunk = 8
	for i := headerSize; i+chunk <= headerSize+nonceSize; i += chunk {
		if bytes.Equal(first[i:i+chunk], second[i:i+chunk]) {
			t.Errorf("nonces agree at %d", i)
		}
	}
	for i := 2*headerSize + nonceSize; i+chunk <= len(first); i += chunk {
		if bytes.Equal(first[i:i+chunk], second[i:i+chunk]) {
			t.Errorf("answers agree at %d", i)
		}
	}
}

// tap keeps what is read.
type tap struct {
	net.Conn
	read bytes.Buffer
}

func (t *tap) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.read.Write(b[:n])
	return n, err
}

// TestNonce changes each thing that evidence is bound to.
func TestNonce(t *testing.T) {
	challenge, h := [nonceSize]byte{1}, hello{[publicSize]byte{2}, "web"}
	want := nonceFor(challenge, &h, nil)
	if len(want) != 64 {
		t.Fatalf("%d bytes", len(want))
	}
	seen := map[string]string{string(want): "the first"}
	for name, got := range map[string][]byte{
		"challenge": nonceFor([nonceSize]byte{2}, &h, nil), "key": nonceFor(challenge, &hello{[publicSize]byte{3}, "web"}, nil),
		"name": nonceFor(challenge, &hello{h.public, "web2"}, nil), "report": nonceFor(challenge, &h, &State{}),
		"sequence": nonceFor(challenge, &h, &State{Sequence: 1}), "header": nonceFor(challenge, &h, &State{Header: [32]byte{1}}),
		"sealed with": nonceFor(challenge, &h, &State{Key: [32]byte{1}}), "start": nonceFor(challenge, &h, &State{Start: true}),
	} {
		if same, ok := seen[string(got)]; ok {
			t.Errorf("%s has the nonce of %s", name, same)
		}
		seen[string(got)] = name
	}
}

// reported is a state whose every field is something.
var reported = State{Sequence: 51, Header: [32]byte{5}, Key: KeyID(secret), Start: true}

// TestReport has a state reported: the server sees all of it, and the client what it says.
func TestReport(t *testing.T) {
	a, b := pair(t)
	served := make(chan error, 1)
	go func() { served <- record(b, signer, 52) }()
	floor, err := client().Report(t.Context(), func(context.Context) (net.Conn, error) { return a, nil }, &reported)
	if err != nil || floor != 52 {
		t.Errorf("%d, %v", floor, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if KeyID(secret) == KeyID(secret[1:]) || bytes.Contains(reported.marshal(), secret[:8]) {
		t.Error("the key's identity gives it away")
	}
}

// TestReportRefused: what a server does not accept is an error, and its own one if the
// server said so.
func TestReportRefused(t *testing.T) {
	for name, test := range map[string]struct {
		server func(net.Conn) error
		want   error
	}{
		"refused": {func(c net.Conn) error {
			k, _ := Hear(c, signer, patience)
			return k.Refuse("rule rollback; bring it back")
		}, ErrRefused},
		"another signer": {func(c net.Conn) error { return record(c, other, 0) }, ErrLying},
		"released": {func(c net.Conn) error {
			k, _ := Hear(c, signer, patience)
			_, _, _ = k.Challenge()
			return k.Release(secret)
		}, ErrMalformed},
		"absurd": {func(c net.Conn) error { return record(c, signer, MaxSequence+1) }, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			go func() { _ = test.server(b) }()
			floor, err := client().Report(t.Context(), func(context.Context) (net.Conn, error) { return a, nil }, &reported)
			if floor != 0 {
				t.Errorf("from %d on", floor)
			}
			oneLine(t, err, test.want)
		})
	}
}

// TestReportAltered flips each byte of what a client reports: the server takes none of it,
// and no old answer is taken for a new one.
func TestReportAltered(t *testing.T) {
	const first = headerSize + publicSize + len("web")
	for at := first; at < first+headerSize+stateSize; at++ {
		a, b := net.Pipe()
		served := make(chan error, 1)
		go func() { served <- record(b, signer, 0) }()
		c := client()
		c.Patience = time.Second
		conn := &flipOut{Conn: a, at: at}
		_, err := c.Report(t.Context(), func(context.Context) (net.Conn, error) { return conn, nil }, &reported)
		a.Close()
		if refused := <-served; err == nil || refused == nil {
			t.Fatalf("byte %d: %v, %v", at, err, refused)
		}
	}
}

// flipOut changes a bit of what is written.
type flipOut struct {
	net.Conn
	at, seen int
}

func (f *flipOut) Write(b []byte) (int, error) {
	b = bytes.Clone(b)
	if i := f.at - f.seen; i >= 0 && i < len(b) {
		b[i] ^= 0x10
	}
	f.seen += len(b)
	return f.Conn.Write(b)
}

// TestUnusable refuses to begin, and says nothing to anybody.
func TestUnusable(t *testing.T) {
	for name, spoil := range map[string]func(*Client){
		"no name":      func(c *Client) { c.VM = "" },
		"long name":    func(c *Client) { c.VM = strings.Repeat("a", MaxName+1) },
		"path":         func(c *Client) { c.VM = "../web" },
		"hidden":       func(c *Client) { c.VM = ".web" },
		"line break":   func(c *Client) { c.VM = "a\nb" },
		"no key":       func(c *Client) { c.Server = nil },
		"half a key":   func(c *Client) { c.Server = c.Server[:16] },
		"not a letter": func(c *Client) { c.VM = "w\xc3\xb6b" },
	} {
		t.Run(name, func(t *testing.T) {
			c := client()
			spoil(c)
			_, err := c.Release(t.Context(), func(context.Context) (net.Conn, error) {
				t.Error("it connects")
				return nil, errors.New("no")
			})
			oneLine(t, err, ErrUnusable)
		})
	}
	for _, name := range []string{"a", "web-1.example_2", strings.Repeat("a", MaxName), "9"} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
}

// TestNoEvidence: what the VM cannot show is its own trouble, not the server's.
func TestNoEvidence(t *testing.T) {
	for name, evidence := range map[string]func([]byte) ([]byte, error){
		"broken TEE": func([]byte) ([]byte, error) { return nil, errors.New("no TEE") },
		"nothing":    func([]byte) ([]byte, error) { return nil, nil },
		"too much":   func([]byte) ([]byte, error) { return make([]byte, 1<<20), nil },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			go release(b, signer, secret)
			c := client()
			c.Evidence = evidence
			_, err := c.Exchange(t.Context(), a)
			oneLine(t, err, ErrEvidence)
		})
	}
}

// TestAbsent: nobody listens, or connecting takes too long, or the caller has no more time.
func TestAbsent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	dial := func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	_, err = client().Release(t.Context(), dial)
	oneLine(t, err, ErrAbsent)

	c := client()
	c.Patience = 20 * time.Millisecond
	never := func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	_, err = c.Release(t.Context(), never)
	oneLine(t, err, ErrSlow)

	a, _ := pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = client().Exchange(ctx, a)
	oneLine(t, err, ErrSlow)

	a, _ = pair(t)
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := client().Exchange(ctx, a); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
