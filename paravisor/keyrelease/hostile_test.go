package keyrelease

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestServers has servers that are not what they should be. None of them makes a client
// wait for longer than its patience, nor has it take anything for a key.
func TestServers(t *testing.T) {
	hear := func(conn net.Conn) { // the hello
		_, _ = io.ReadFull(conn, make([]byte, headerSize+publicSize+len("web")))
	}
	says := func(b []byte) func(net.Conn) {
		return func(conn net.Conn) {
			hear(conn)
			_, _ = conn.Write(b)
			_ = conn.Close()
		}
	}
	challenge := message(version, kindChallenge, nonceSize, make([]byte, nonceSize))
	after := func(answer []byte) func(net.Conn) { // a challenge and this
		return func(conn net.Conn) {
			hear(conn)
			_, _ = conn.Write(challenge)
			_, _ = io.ReadFull(conn, make([]byte, headerSize+64))
			_, _ = conn.Write(answer)
			_ = conn.Close()
		}
	}
	release144 := make([]byte, sealedSize+signatureSize)
	for name, test := range map[string]struct {
		server func(net.Conn)
		want   error
		slow   bool
	}{
		"another signer":          {func(c net.Conn) { _ = release(c, other, secret) }, ErrLying, false},
		"refusal, another signer": {func(c net.Conn) { k, _ := Hear(c, other, patience); _ = k.Refuse("because; do nothing") }, ErrLying, false},
		"refusal":                 {func(c net.Conn) { k, _ := Hear(c, signer, patience); _ = k.Refuse("because; do nothing") }, ErrRefused, false},
		"refusal without a word":  {func(c net.Conn) { k, _ := Hear(c, signer, patience); _ = k.Refuse("") }, ErrRefused, false},
		"refusal with escapes":    {func(c net.Conn) { k, _ := Hear(c, signer, patience); _ = k.answer(kindRefusal, []byte("\x1b[2J")) }, ErrMalformed, false},
		"never answers":           {hear, ErrSlow, true},
		"never reads":             {func(net.Conn) {}, ErrSlow, true},
		"half an answer":          {func(c net.Conn) { hear(c); _, _ = c.Write(challenge[:20]) }, ErrSlow, true},
		"leaves at once":          {func(c net.Conn) { _ = c.Close() }, ErrAbsent, false},
		"leaves after the hello":  {says(nil), ErrAbsent, false},
		"leaves after evidence":   {after(nil), ErrAbsent, false},
		"garbage":                 {says([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")), ErrMalformed, false},
		"zeros":                   {says(make([]byte, 1<<16)), ErrMalformed, false},
		"truncated header":        {says(challenge[:5]), ErrMalformed, false},
		"truncated challenge":     {says(challenge[:headerSize+10]), ErrMalformed, false},
		"unknown version":         {says(message(7, kindChallenge, nonceSize, make([]byte, nonceSize))), ErrVersion, false},
		"short challenge":         {says(message(version, kindChallenge, nonceSize-1, make([]byte, nonceSize))), ErrMalformed, false},
		"oversized challenge":     {says(message(version, kindChallenge, 1<<31, nil)), ErrMalformed, false},
		"oversized refusal":       {says(message(version, kindRefusal, MaxReason+signatureSize+1, make([]byte, 1000))), ErrMalformed, false},
		"release too early":       {says(message(version, kindRelease, 144, release144)), ErrMalformed, false},
		"its own hello":           {says(message(version, kindHello, 40, make([]byte, 40))), ErrMalformed, false},
		"two challenges":          {after(challenge), ErrMalformed, false},
		"unsigned release":        {after(message(version, kindRelease, 144, release144)), ErrLying, false},
		"unsigned refusal":        {after(message(version, kindRefusal, 100, bytes.Repeat([]byte("a"), 100))), ErrLying, false},
		"oversized release":       {after(message(version, kindRelease, 145, make([]byte, 145))), ErrMalformed, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			go test.server(b)
			c := client()
			if test.slow {
				c.Patience = 50 * time.Millisecond
			}
			key, err := c.Exchange(t.Context(), a)
			if key != nil {
				t.Errorf("key %x", key)
			}
			oneLine(t, err, test.want)
		})
	}
}

// TestAltered flips each byte that the server says, one at a time: no key comes of it.
func TestAltered(t *testing.T) {
	const said = 2*headerSize + nonceSize + sealedSize + signatureSize
	for at := range said {
		a, b := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = release(b, signer, secret)
		}()
		c := client()
		c.Patience = time.Second
		key, err := c.Exchange(t.Context(), &flip{Conn: a, at: at})
		a.Close()
		<-served
		if key != nil || err == nil {
			t.Fatalf("byte %d: key %x, %v", at, key, err)
		}
		// A challenge that was changed is answered, and then the answers do not fit.
		nonce := at >= headerSize && at < headerSize+nonceSize
		if nonce && !errors.Is(err, ErrLying) {
			t.Errorf("byte %d of the nonce: %v", at, err)
		}
	}
}

// flip changes a bit of what is read.
type flip struct {
	net.Conn
	at, seen int
}

func (f *flip) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if i := f.at - f.seen; i >= 0 && i < n {
		b[i] ^= 0x10
	}
	f.seen += n
	return n, err
}

// TestClients has clients that are not what they should be.
func TestClients(t *testing.T) {
	hello := message(version, kindHello, publicSize+3, append(bytes.Repeat([]byte{9}, publicSize), "web"...))
	named := func(name string) []byte {
		return message(version, kindHello, uint32(publicSize+len(name)), append(bytes.Repeat([]byte{9}, publicSize), name...))
	}
	lowOrder := message(version, kindHello, publicSize+3, append(make([]byte, publicSize), "web"...))
	for name, test := range map[string]struct {
		says []byte
		want error
	}{
		"nothing":            {nil, ErrGone},
		"half a header":      {hello[:7], ErrMalformed},
		"header alone":       {hello[:headerSize], ErrMalformed},
		"truncated hello":    {hello[:len(hello)-1], ErrMalformed},
		"garbage":            {[]byte("GET / HTTP/1.1\r\n\r\n"), ErrMalformed},
		"unknown version":    {message(1, kindHello, 40, nil), ErrVersion},
		"no name":            {message(version, kindHello, publicSize, make([]byte, publicSize)), ErrMalformed},
		"long name":          {named(strings.Repeat("a", MaxName+1)), ErrMalformed},
		"path for a name":    {named("../../etc/passwd"), ErrMalformed},
		"NUL in the name":    {named("a\x00b"), ErrMalformed},
		"oversized hello":    {message(version, kindHello, 1<<32-1, nil), ErrMalformed},
		"evidence at once":   {message(version, kindEvidence, 1, []byte{1}), ErrMalformed},
		"unknown kind":       {message(version, 99, 1, []byte{1}), ErrMalformed},
		"leaves":             {hello, ErrGone},
		"two hellos":         {append(bytes.Clone(hello), hello...), ErrMalformed},
		"truncated evidence": {append(bytes.Clone(hello), message(version, kindEvidence, 100, make([]byte, 99))...), ErrMalformed},
		"no evidence":        {append(bytes.Clone(hello), message(version, kindEvidence, 0, nil)...), ErrMalformed},
		"oversized evidence": {append(bytes.Clone(hello), message(version, kindEvidence, 128<<10+1, nil)...), ErrMalformed},
		"truncated report":   {append(bytes.Clone(hello), message(version, kindReport, stateSize, make([]byte, stateSize))...), ErrMalformed},
		"report with flags":  {append(bytes.Clone(hello), message(version, kindReport, stateSize+1, append(bytes.Repeat([]byte{1}, stateSize), 1))...), ErrMalformed},
		"low order":          {append(bytes.Clone(lowOrder), message(version, kindEvidence, 1, []byte{1})...), ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			conn := &script{from: bytes.NewReader(test.says)}
			err := talk(conn)
			oneLine(t, err, test.want)
		})
	}
}

// talk is a server that releases to anybody, and accepts any state.
func talk(conn net.Conn) error {
	c, err := Hear(conn, signer, patience)
	if err != nil {
		return err
	}
	if _, _, err := c.Challenge(); err != nil {
		return err
	}
	if c.Reported != nil {
		return c.Accept(c.Reported.Sequence)
	}
	return c.Release(secret)
}

// TestSlowClient: a server gives up, too.
func TestSlowClient(t *testing.T) {
	_, b := pair(t)
	_, err := Hear(b, signer, 20*time.Millisecond)
	oneLine(t, err, ErrSlow)
}

// TestKeySize releases nothing that is no key.
func TestKeySize(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	served := make(chan error, 1)
	go func() { served <- release(b, signer, secret[1:]) }()
	if key, err := client().Exchange(t.Context(), a); err == nil {
		t.Errorf("key %x", key)
	}
	oneLine(t, <-served, ErrUnusable)
}

// TestLine makes anything fit for a line.
func TestLine(t *testing.T) {
	for s, want := range map[string]string{
		"": "", "plain; text": "plain; text", "a\nb\tc\x1b[2J\x00": "a b c?[2J?", "\xc3\xb6": "??",
	} {
		if got := Line(s); got != want {
			t.Errorf("%q: %q", s, got)
		}
	}
	if got := Line(strings.Repeat("a", MaxReason+1)); len(got) != MaxReason || !strings.HasSuffix(got, "a...") {
		t.Errorf("%d bytes", len(got))
	}
}

// FuzzRequests is what a server reads: it answers, refuses or leaves, whatever that is.
func FuzzRequests(f *testing.F) {
	hello := message(version, kindHello, publicSize+3, append(bytes.Repeat([]byte{9}, publicSize), "web"...))
	f.Add(hello)
	f.Add(append(bytes.Clone(hello), message(version, kindEvidence, 4, []byte("{}{}"))...))
	f.Add(append(bytes.Clone(hello), message(version, kindReport, stateSize+2, append(reported.marshal(), "{}"...))...))
	f.Add(message(1, kindHello, 40, nil))
	f.Add(message(version, kindHello, 1<<32-1, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		conn := &script{from: bytes.NewReader(b)}
		err := talk(conn)
		known := false
		for _, e := range []error{nil, ErrGone, ErrMalformed, ErrVersion} {
			known = known || errors.Is(err, e)
		}
		if !known {
			t.Fatalf("%v", err)
		}
		if bytes.Contains(conn.to.Bytes(), secret[:8]) {
			t.Fatal("the key travels in the clear")
		}
		const said = 2*headerSize + nonceSize + signatureSize
		if n := conn.to.Len(); err == nil && n != said+sealedSize && n != said+floorSize {
			t.Fatalf("%d bytes of answers", conn.to.Len())
		}
	})
}

// FuzzAnswers is what a client reads: nothing that was not signed for it becomes a key, or
// a reason that is shown.
func FuzzAnswers(f *testing.F) {
	challenge := message(version, kindChallenge, nonceSize, make([]byte, nonceSize))
	f.Add(challenge)
	f.Add(append(bytes.Clone(challenge), message(version, kindRelease, 144, make([]byte, 144))...))
	f.Add(message(version, kindRefusal, 70, make([]byte, 70)))
	f.Add(message(9, kindRefusal, 70, make([]byte, 70)))
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := client().Exchange(t.Context(), &script{from: bytes.NewReader(b)})
		if key != nil || err == nil || errors.Is(err, ErrRefused) {
			t.Fatalf("%x, %v", key, err)
		}
		known := false
		for _, e := range []error{ErrAbsent, ErrLying, ErrMalformed, ErrVersion} {
			known = known || errors.Is(err, e)
		}
		if !known || strings.ContainsAny(err.Error(), "\r\n\x1b\x00") {
			t.Fatalf("%q", err)
		}
	})
}
