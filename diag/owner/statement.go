package owner

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// Metadata is the name of the metadata of a call that has its signed statement.
const Metadata = "keel-owner"

// Sizes, in bytes.
const (
	NonceSize    = 32
	InstanceSize = 16
	maxMethod    = 128
)

// Nonce is a number that the VM gives out and takes back once.
type Nonce [NonceSize]byte

// Instance is the name that evidence gives a VM (claims.Claim.Instance).
type Instance [InstanceSize]byte

// Statement is what an owner signs for a call. It names all that the call depends on, so
// that a refusal can tell what differs.
//
// A nonce is of one VM, but whose that is the owner sees only through the host, which
// may carry the nonce of another VM of the same owner: therefore the instance.
type Statement struct {
	Instance Instance
	Nonce    Nonce
	Request  [sha256.Size]byte // digest of the request as it is sent
	Method   string            // with its service: "keel.diag.v1.Control/Pause"
}

// Errors of ParseSigned and Verify.
var (
	ErrStatement = errors.New("the signature is malformed")
	ErrSigner    = errors.New("another key signed")
	ErrSignature = errors.New("the signature does not hold")
)

// domain keeps these signatures apart from all others of the same key.
const domain = "keel owner call v1\n"

// fixed is the length of a statement in front of the method: signer, instance, nonce, digest.
const fixed = ed25519.PublicKeySize + InstanceSize + NonceSize + sha256.Size

// encode returns a statement as bytes. All but the last part are of one length.
func (s *Statement) encode(signer ed25519.PublicKey) []byte {
	return bytes.Join([][]byte{signer, s.Instance[:], s.Nonce[:], s.Request[:], []byte(s.Method)}, nil)
}

// Sign returns a signed statement as text: the signature and what is signed, in base64.
func (s *Statement) Sign(key ed25519.PrivateKey) string {
	signer, _ := key.Public().(ed25519.PublicKey) // what it is
	said := s.encode(signer)
	return base64.RawStdEncoding.EncodeToString(append(ed25519.Sign(key, append([]byte(domain), said...)), said...))
}

// Signed is a statement with a signature that nobody has verified yet.
type Signed struct {
	Statement
	signature, said []byte
}

// ParseSigned reads what Sign returns. Nothing in it is to be believed before Verify.
func ParseSigned(text string) (*Signed, error) {
	const most = ed25519.SignatureSize + fixed + maxMethod
	if len(text) > base64.RawStdEncoding.EncodedLen(most) {
		return nil, fmt.Errorf("%w: %d bytes", ErrStatement, len(text))
	}
	b, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: no base64", ErrStatement)
	}
	if len(b) <= ed25519.SignatureSize+fixed {
		return nil, fmt.Errorf("%w: %d bytes", ErrStatement, len(b))
	}
	s := &Signed{signature: b[:ed25519.SignatureSize], said: b[ed25519.SignatureSize:]}
	rest := s.said[ed25519.PublicKeySize:]
	for _, part := range [][]byte{s.Instance[:], s.Nonce[:], s.Request[:]} {
		rest = rest[copy(part, rest):]
	}
	s.Method = string(rest)
	return s, nil
}

// Verify checks that the key signed the statement. Errors: ErrSigner, ErrSignature.
func (s *Signed) Verify(key ed25519.PublicKey) error {
	if !bytes.Equal(s.said[:ed25519.PublicKeySize], key) {
		return ErrSigner
	}
	if !ed25519.Verify(key, append([]byte(domain), s.said...), s.signature) {
		return ErrSignature
	}
	return nil
}
