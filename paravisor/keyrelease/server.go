package keyrelease

import (
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"time"
)

// Conversation is the server's end of one exchange. Its methods are called in the order
// Challenge, then Release, Accept or Refuse; Refuse may come at once, and also after an
// error that is not ErrSlow or ErrGone.
type Conversation struct {
	VM       string // what the client says that it is: nothing vouches for it yet
	Reported *State // what it reports, once Challenge has returned; nil: it asks for its key

	w      *wire
	signer ed25519.PrivateKey
	hello  *hello
	to     hpke.PublicKey
}

// Hear reads what a client begins with. patience is for each message, DefaultPatience if
// zero. Errors are ErrGone, ErrSlow, ErrMalformed and ErrVersion; the conversation is there
// for Refuse in any case. The caller closes the connection.
func Hear(conn net.Conn, signer ed25519.PrivateKey, patience time.Duration) (*Conversation, error) {
	c := &Conversation{w: newWire(conn, patience, ErrGone), signer: signer}
	_, head, body, err := c.w.receive(kindHello)
	if err != nil {
		return c, err
	}
	c.w.hear(head, body)
	h, err := parseHello(body)
	if err != nil {
		return c, err
	}
	kem, _, _ := suite()
	if c.to, err = kem.NewPublicKey(h.public[:]); err != nil {
		return c, fmt.Errorf("%w: the client's public key: %w; use the same Keel on both sides", ErrMalformed, err)
	}
	c.VM, c.hello = h.vm, h
	return c, nil
}

// Challenge asks for evidence, and returns it together with the nonce that its claim must
// have, the State that is reported among what it covers. Nothing of it is checked. Errors
// are those of Hear.
func (c *Conversation) Challenge() (evidence, nonce []byte, err error) {
	var challenge [nonceSize]byte
	_, _ = rand.Read(challenge[:]) // never fails
	if err := c.w.send(kindChallenge, challenge[:]); err != nil {
		return nil, nil, err
	}
	k, head, body, err := c.w.receive(kindEvidence, kindReport)
	if err != nil {
		return nil, nil, err
	}
	c.w.hear(head, body)
	if k == kindReport {
		if c.Reported, err = parseState(body[:stateSize]); err != nil {
			return nil, nil, err
		}
		body = body[stateSize:]
	}
	return body, nonceFor(challenge, c.hello, c.Reported), nil
}

// Release hands over a key of KeySize bytes. Errors are ErrGone, ErrSlow, ErrUnusable, and
// ErrMalformed for a client's public key that no key can be sealed for.
//
// Preconditions: the evidence of Challenge is good, its claim has that nonce and Instance,
// and nothing is Reported.
func (c *Conversation) Release(key []byte) error {
	if len(key) != KeySize {
		return fmt.Errorf("%w: a key of %d bytes; it has %d", ErrUnusable, len(key), KeySize)
	}
	_, kdf, aead := suite()
	sealed, err := hpke.Seal(c.to, kdf, aead, append([]byte(sealLabel), c.w.sum()...), key)
	if err != nil { // the point has a low order (RFC 7748, section 6.1)
		return fmt.Errorf("%w: the client's public key: %w; use the same Keel on both sides", ErrMalformed, err)
	}
	return c.answer(kindRelease, sealed)
}

// Accept says that the state that was reported may be used, or is known now. Its next
// commits must have sequence numbers from floor on. Errors are ErrGone and ErrSlow.
//
// Preconditions: as for Release, but that something is Reported.
func (c *Conversation) Accept(floor uint64) error {
	return c.answer(kindAccepted, binary.LittleEndian.AppendUint64(nil, floor))
}

// Refuse tells the client why it gets nothing: cause and remedy, which Line makes fit.
// Errors are ErrGone and ErrSlow.
func (c *Conversation) Refuse(reason string) error {
	reason = Line(reason)
	if reason == "" {
		reason = "it gives no reason; see its log"
	}
	return c.answer(kindRefusal, []byte(reason))
}

// answer signs an answer and all that was said before, and sends it.
func (c *Conversation) answer(k kind, answer []byte) error {
	b := append(header(k, len(answer)+signatureSize), answer...)
	c.w.said.Write(b)
	return c.w.write(k, append(b, ed25519.Sign(c.signer, append([]byte(answerLabel), c.w.sum()...))...))
}
