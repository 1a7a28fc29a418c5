package keyrelease

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// patience of these tests is short where an end is meant to run out of it.
const patience = 10 * time.Second

var (
	signer = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	other  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, ed25519.SeedSize))
	secret = bytes.Repeat([]byte{0x5e}, KeySize)
)

// client returns one that knows the signer. Its evidence is its nonce: what evidence is
// worth is not the protocol's concern.
func client() *Client {
	public, _ := signer.Public().(ed25519.PublicKey)
	return &Client{
		VM: "web", Server: public, Patience: patience,
		Evidence: func(nonce []byte) ([]byte, error) { return nonce, nil },
	}
}

// pair returns the two ends of a connection of TCP, which are closed with the test.
func pair(tb testing.TB) (client, server net.Conn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { client.Close() })
	if server, err = l.Accept(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { server.Close() })
	return client, server
}

// release is a server that gives the secret to whoever answers its nonce.
func release(conn net.Conn, signer ed25519.PrivateKey, key []byte) error {
	defer conn.Close()
	c, err := Hear(conn, signer, patience)
	if err != nil {
		return errors.Join(err, c.Refuse(err.Error()))
	}
	evidence, nonce, err := c.Challenge()
	if err != nil {
		return err
	}
	if !bytes.Equal(evidence, nonce) {
		return c.Refuse("wrong nonce; ask again")
	}
	return c.Release(key)
}

// record is a server that accepts the report that the tests make, and no other.
func record(conn net.Conn, signer ed25519.PrivateKey, floor uint64) error {
	defer conn.Close()
	c, err := Hear(conn, signer, patience)
	if err != nil {
		return errors.Join(err, c.Refuse(err.Error()))
	}
	evidence, nonce, err := c.Challenge()
	if err != nil {
		return err
	}
	if !bytes.Equal(evidence, nonce) || c.Reported == nil || *c.Reported != reported {
		return errors.Join(errors.New("another report"), c.Refuse("another report; ask again"))
	}
	return c.Accept(floor)
}

// oneLine wants an error that says cause and remedy in a line.
func oneLine(tb testing.TB, err error, want error) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Fatalf("%v, want %v", err, want)
	}
	if s := err.Error(); strings.ContainsAny(s, "\r\n\x1b") || !strings.Contains(s, ";") || len(s) > 2*MaxReason {
		tb.Errorf("%q is not one line with a remedy", s)
	}
}

// script is a connection on which the other end says what is written here, and hears
// nothing.
type script struct {
	net.Conn // of which only these are called
	from     io.Reader
	to       bytes.Buffer
}

func (s *script) Read(b []byte) (int, error)       { return s.from.Read(b) }
func (s *script) Write(b []byte) (int, error)      { return s.to.Write(b) }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) Close() error                     { return nil }

// message is one with whatever header it is told.
func message(version uint16, k kind, length uint32, body []byte) []byte {
	b := header(k, int(length))
	b[atVersion], b[atVersion+1] = byte(version), byte(version>>8)
	return append(b, body...)
}
