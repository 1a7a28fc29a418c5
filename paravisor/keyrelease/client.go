package keyrelease

import (
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"errors"
	"fmt"
	"net"
	"time"

	"keel/diag/attest/claims"
)

// Client asks for a key.
type Client struct {
	VM     string            // as the server's policy names it; see CheckName
	Server ed25519.PublicKey // of the server; nobody else is believed
	// Evidence returns evidence of this VM, as claims.Evidence marshals it, whose claim has
	// this nonce and Instance.
	Evidence func(nonce []byte) ([]byte, error)
	Patience time.Duration // for each message; DefaultPatience if zero
}

// Release connects and returns the key of KeySize bytes that the server releases. Errors
// are those of this package. ctx bounds it all.
func (c *Client) Release(ctx context.Context, dial func(context.Context) (net.Conn, error)) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	patience := c.Patience
	if patience <= 0 {
		patience = DefaultPatience
	}
	dialing, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := dial(dialing)
	switch {
	case err != nil && errors.Is(dialing.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("%w: no connection within %v: %w; see that the address is right and the server runs", ErrSlow, patience, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w; start it, or give its address with --key-server", ErrAbsent, err)
	}
	defer conn.Close()
	return c.Exchange(ctx, conn)
}

// check refuses a client with which no exchange can succeed.
func (c *Client) check() error {
	if len(c.Server) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: a public key of %d bytes; give the %d that 'keel keyserver keygen' prints", ErrUnusable, len(c.Server), ed25519.PublicKeySize)
	}
	return CheckName(c.VM)
}

// Exchange does the same over a connection, which may not be used afterwards; the caller
// closes it.
func (c *Client) Exchange(ctx context.Context, conn net.Conn) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends what waits for it
	defer stop()
	key, err := c.exchange(newWire(conn, c.Patience, ErrAbsent))
	switch {
	case err == nil || ctx.Err() == nil:
		return key, err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("%w: the time for the whole exchange is over; see that the server runs and is not overloaded", ErrSlow)
	}
	return nil, context.Cause(ctx)
}

func (c *Client) exchange(w *wire) ([]byte, error) {
	kem, _, _ := suite()
	private, err := kem.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	h := hello{public: [publicSize]byte(private.PublicKey().Bytes()), vm: c.VM}
	if err := w.send(kindHello, h.marshal()); err != nil {
		return nil, err
	}
	k, head, body, err := w.receive(kindChallenge, kindRefusal)
	if err != nil {
		return nil, err
	}
	if k == kindRefusal {
		return nil, c.refused(w, head, body)
	}
	w.hear(head, body)
	evidence, err := c.evidence(nonceFor([nonceSize]byte(body), h.public, h.vm))
	if err != nil {
		return nil, err
	}
	if err := w.send(kindEvidence, evidence); err != nil {
		return nil, err
	}
	k, head, body, err = w.receive(kindRelease, kindRefusal)
	if err != nil {
		return nil, err
	}
	if k == kindRefusal {
		return nil, c.refused(w, head, body)
	}
	return c.open(w, private, head, body)
}

func (c *Client) evidence(nonce []byte) ([]byte, error) {
	b, err := c.Evidence(nonce)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; see that the VM's TEE works", ErrEvidence, err)
	}
	if len(b) < 1 || len(b) > claims.MaxEvidence {
		return nil, fmt.Errorf("%w: %d bytes; a server reads 1 to %d", ErrEvidence, len(b), claims.MaxEvidence)
	}
	return b, nil
}

// open takes the key out of a release.
func (c *Client) open(w *wire, private hpke.PrivateKey, head [headerSize]byte, body []byte) ([]byte, error) {
	info := append([]byte(sealLabel), w.sum()...)
	sealed, err := c.signed(w, head, body)
	if err != nil {
		return nil, err
	}
	_, kdf, aead := suite()
	key, err := hpke.Open(private, kdf, aead, info, sealed)
	if err != nil || len(key) != KeySize {
		return nil, fmt.Errorf("%w: its signature is right, but the key is not sealed for this exchange; ask who runs it", ErrLying)
	}
	return key, nil
}

// refused returns the error of a refusal.
func (c *Client) refused(w *wire, head [headerSize]byte, body []byte) error {
	text, err := c.signed(w, head, body)
	if err != nil {
		return err
	}
	reason, err := parseReason(text)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", ErrRefused, reason)
}

// signed returns an answer without its signature, which it checks first.
func (c *Client) signed(w *wire, head [headerSize]byte, body []byte) ([]byte, error) {
	answer, signature := body[:len(body)-signatureSize], body[len(body)-signatureSize:]
	w.hear(head, answer)
	if !ed25519.Verify(c.Server, append([]byte(answerLabel), w.sum()...), signature) {
		return nil, fmt.Errorf("%w: the answer is not signed with %x; give the right --key-server and the public key that it prints", ErrLying, []byte(c.Server))
	}
	return answer, nil
}
