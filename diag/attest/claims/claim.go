// Package claims is what a confidential VM says about itself and its TEE vouches for: the
// claim behind the report data, the report and runtime claims that guests read from the
// TPM, and the envelope in which evidence travels. It only packs and unpacks; what is true
// of it, package attest decides.
package claims

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
)

// Errors of decoding. Each comes with one line that tells what is wrong and what to do.
var (
	// ErrTruncated reports bytes that end too early.
	ErrTruncated = errors.New("truncated")
	// ErrVersion reports a version or kind that this program does not know.
	ErrVersion = errors.New("unknown version")
	// ErrFormat reports bytes that are whole and yet not what they should be.
	ErrFormat = errors.New("malformed")
	// ErrSize reports something too large for its place.
	ErrSize = errors.New("too large")
)

// Layout of a claim, version 1. All of it is fixed, integers are little endian:
//
//	0x00   8  magic "KEELCLM\0"
//	0x08   4  version, 1
//	0x0c   4  length of the nonce, 16 to 64
//	0x10  64  nonce, zeros after its length
//	0x50  32  SHA-256 of the vTPM's endorsement keys (DigestKeys)
//	0x70  32  SHA-256 of the vTPM's attestation keys (DigestKeys)
//	0x90  32  SHA-256 of the measured configuration
//	0xb0  16  instance: an identity of this VM that it keeps in its sealed state
//
// The report data of the TEE's report is the SHA-512 of these 192 bytes.
const (
	claimMagic    = "KEELCLM\x00"
	claimVersion  = 1
	claimNonceLen = 0x0c
	claimNonce    = 0x10
	claimEK       = 0x50
	claimAK       = 0x70
	claimConfig   = 0x90
	claimInstance = 0xb0

	// ClaimSize is the size of a marshalled claim in bytes.
	ClaimSize = 0xc0
	// MinNonce is a nonce's least length in bytes.
	MinNonce = 16
	// MaxNonce is a nonce's greatest length in bytes.
	MaxNonce = 64
)

// Claim is what the paravisor says with its report, the nonce being the verifier's.
type Claim struct {
	Nonce    []byte // MinNonce to MaxNonce bytes
	EK, AK   [32]byte
	Config   [32]byte
	Instance [16]byte
}

// Marshal returns the claim's ClaimSize bytes. Its errors are ErrFormat.
func (c *Claim) Marshal() ([]byte, error) {
	if len(c.Nonce) < MinNonce || len(c.Nonce) > MaxNonce {
		return nil, fmt.Errorf("%w: a nonce of %d bytes; give %d to %d", ErrFormat, len(c.Nonce), MinNonce, MaxNonce)
	}
	b := make([]byte, ClaimSize)
	copy(b, claimMagic)
	binary.LittleEndian.PutUint32(b[len(claimMagic):], claimVersion)
	binary.LittleEndian.PutUint32(b[claimNonceLen:], uint32(len(c.Nonce)))
	copy(b[claimNonce:], c.Nonce)
	copy(b[claimEK:], c.EK[:])
	copy(b[claimAK:], c.AK[:])
	copy(b[claimConfig:], c.Config[:])
	copy(b[claimInstance:], c.Instance[:])
	return b, nil
}

// ParseClaim is the inverse of Marshal; no other bytes than Marshal's are taken.
func ParseClaim(b []byte) (*Claim, error) {
	if len(b) < ClaimSize {
		return nil, fmt.Errorf("%w: a claim of %d bytes has %d; fetch the evidence again", ErrTruncated, ClaimSize, len(b))
	}
	if string(b[:len(claimMagic)]) != claimMagic || len(b) > ClaimSize {
		return nil, fmt.Errorf("%w: no claim of Keel; is the other end a Keel paravisor?", ErrFormat)
	}
	if v := binary.LittleEndian.Uint32(b[len(claimMagic):]); v != claimVersion {
		return nil, fmt.Errorf("%w: a claim of version %d; use a verifier that knows it", ErrVersion, v)
	}
	n := binary.LittleEndian.Uint32(b[claimNonceLen:])
	if n < MinNonce || n > MaxNonce {
		return nil, fmt.Errorf("%w: a claim's nonce of %d bytes; it has %d to %d", ErrFormat, n, MinNonce, MaxNonce)
	}
	if rest := b[claimNonce+n : claimEK]; !bytes.Equal(rest, make([]byte, len(rest))) {
		return nil, fmt.Errorf("%w: bytes after a claim's nonce; they are zeros", ErrFormat)
	}
	c := &Claim{Nonce: bytes.Clone(b[claimNonce:][:n])}
	copy(c.EK[:], b[claimEK:])
	copy(c.AK[:], b[claimAK:])
	copy(c.Config[:], b[claimConfig:])
	copy(c.Instance[:], b[claimInstance:])
	return c, nil
}

// ReportData is what goes into the TEE's report for a marshalled claim.
func ReportData(claim []byte) [64]byte { return sha512.Sum512(claim) }

// DigestKeys returns the SHA-256 over the keys' SubjectPublicKeyInfos (RFC 5280, section
// 4.1), DER, one after the other in the order given: RSA before ECC. With no keys it is
// zeros.
func DigestKeys(keys ...crypto.PublicKey) (sum [32]byte, err error) {
	if len(keys) == 0 {
		return sum, nil
	}
	h := sha256.New()
	for _, k := range keys {
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return sum, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		h.Write(der)
	}
	h.Sum(sum[:0])
	return sum, nil
}
