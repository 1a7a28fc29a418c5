package keyrelease

import (
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"encoding/binary"
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
	conn, err := c.connect(ctx, dial)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return c.Exchange(ctx, conn)
}

// Exchange does the same over a connection, which may not be used afterwards; the caller
// closes it.
func (c *Client) Exchange(ctx context.Context, conn net.Conn) (key []byte, err error) {
	err = c.during(ctx, conn, func(w *wire) error {
		key, err = c.release(w)
		return err
	})
	return key, err
}

// Report connects and tells the server of a state. The server has it recorded when Report
// returns; from floor on the next commits of this state have to be numbered. ErrRefused
// says that the state must not be used. Errors are those of this package. ctx bounds it all.
func (c *Client) Report(ctx context.Context, dial func(context.Context) (net.Conn, error), s *State) (floor uint64, err error) {
	conn, err := c.connect(ctx, dial)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	err = c.during(ctx, conn, func(w *wire) error {
		floor, err = c.report(w, s)
		return err
	})
	return floor, err
}

// connect dials within the client's patience.
func (c *Client) connect(ctx context.Context, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
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
	return conn, nil
}

// check refuses a client with which no exchange can succeed.
func (c *Client) check() error {
	if len(c.Server) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: a public key of %d bytes; give the %d that 'keel keyserver keygen' prints", ErrUnusable, len(c.Server), ed25519.PublicKeySize)
	}
	return CheckName(c.VM)
}

// during has one exchange over a connection, for as long as ctx lasts.
func (c *Client) during(ctx context.Context, conn net.Conn, exchange func(*wire) error) error {
	if err := c.check(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends what waits for it
	defer stop()
	err := exchange(newWire(conn, c.Patience, ErrAbsent))
	switch {
	case err == nil || ctx.Err() == nil:
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w: the time for the whole exchange is over; see that the server runs and is not overloaded", ErrSlow)
	}
	return context.Cause(ctx)
}

// release asks for the key.
func (c *Client) release(w *wire) ([]byte, error) {
	kem, _, _ := suite()
	private, err := kem.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	head, body, err := c.show(w, private.PublicKey(), nil, kindRelease)
	if err != nil {
		return nil, err
	}
	return c.open(w, private, head, body)
}

// report tells of a state. Nothing will be sealed for the public key: it is what makes this
// exchange another one than all before, so that no old answer fits.
func (c *Client) report(w *wire, s *State) (floor uint64, err error) {
	kem, _, _ := suite()
	private, err := kem.GenerateKey()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	head, body, err := c.show(w, private.PublicKey(), s, kindAccepted)
	if err != nil {
		return 0, err
	}
	b, err := c.signed(w, head, body)
	if err != nil {
		return 0, err
	}
	if floor = binary.LittleEndian.Uint64(b); floor > MaxSequence {
		return 0, fmt.Errorf("%w: sequence numbers from %d on; use the same Keel on both sides", ErrMalformed, floor)
	}
	return floor, nil
}

// show says who this is, shows evidence for the server's challenge, and for what is reported
// unless that is nil, and returns the answer, which is of the kind that is wanted. A refusal
// is an error.
func (c *Client) show(w *wire, public hpke.PublicKey, reported *State, want kind) (head [headerSize]byte, body []byte, err error) {
	h := hello{public: [publicSize]byte(public.Bytes()), vm: c.VM}
	if err := w.send(kindHello, h.marshal()); err != nil {
		return head, nil, err
	}
	if head, body, err = c.answer(w, kindChallenge); err != nil {
		return head, nil, err
	}
	w.hear(head, body)
	evidence, err := c.evidence(nonceFor([nonceSize]byte(body), &h, reported))
	if err != nil {
		return head, nil, err
	}
	if reported == nil {
		err = w.send(kindEvidence, evidence)
	} else {
		err = w.send(kindReport, append(reported.marshal(), evidence...))
	}
	if err != nil {
		return head, nil, err
	}
	return c.answer(w, want)
}

// answer receives what is wanted, or a refusal, which is an error.
func (c *Client) answer(w *wire, want kind) (head [headerSize]byte, body []byte, err error) {
	k, head, body, err := w.receive(want, kindRefusal)
	if err == nil && k == kindRefusal {
		err = c.refused(w, head, body)
	}
	return head, body, err
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
