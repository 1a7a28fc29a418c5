// Package evidence is the part of the emulated TEE that signs: the AMD-SP's attestation
// reports and derived keys, and the TDX module's reports and quotes, each in its real
// layout. Everything here is public, the private keys included, so what it signs proves
// nothing. Every certificate names itself EMULATED, and a verifier must take its roots
// only where somebody asked for emulated evidence.
//
// The roots are constants: a verifier can know them, and the RSA keys of 4,096 bits that
// AMD's chain uses need not be made in an emulated machine. Signing with the ASK remains;
// it is done once a machine, at the first call that wants the VCEK's certificate.
package evidence

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync"
)

// Errors of this package. None of them can be caused by what a guest says, but for
// ErrRequest.
var (
	// ErrKeys reports an embedded key or certificate that does not parse.
	ErrKeys = errors.New("emulated keys")
	// ErrRequest reports a request that the firmware's ABI forbids.
	ErrRequest = errors.New("request to the emulated firmware")
)

//go:embed keys/*.pem
var files embed.FS

// file returns the contents of an embedded PEM file.
func file(name string) (der, text []byte, err error) {
	text, err = files.ReadFile("keys/" + name)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, nil, fmt.Errorf("%w: %s holds no PEM block", ErrKeys, name)
	}
	return block.Bytes, text, nil
}

// authority is a certificate with the key that signs in its name.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// load reads an authority; the files are parsed at the first use.
func load(cert, key string) func() (authority, error) {
	return sync.OnceValues(func() (a authority, err error) {
		der, _, err := file(cert)
		if err != nil {
			return a, err
		}
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			return a, fmt.Errorf("%w: %s: %w", ErrKeys, cert, err)
		}
		if der, _, err = file(key); err != nil {
			return a, err
		}
		k, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return a, fmt.Errorf("%w: %s: %w", ErrKeys, key, err)
		}
		signer, ok := k.(crypto.Signer)
		if !ok {
			return a, fmt.Errorf("%w: %s cannot sign", ErrKeys, key)
		}
		a.key = signer
		return a, nil
	})
}

// derive expands a machine's secret into n bytes for one purpose.
func derive(secret []byte, purpose string, n int) ([]byte, error) {
	b, err := hkdf.Key(sha256.New, secret, nil, "Keel EMULATED "+purpose, n)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	return b, nil
}

// deriveKey expands a machine's secret into a private key. Sixteen bytes more than the
// group needs make the bias of the reduction negligible (FIPS 186-5, appendix A.2.1).
func deriveKey(curve elliptic.Curve, secret []byte, purpose string) (*ecdsa.PrivateKey, error) {
	order := curve.Params().N
	size := (order.BitLen() + 7) / 8
	b, err := derive(secret, purpose, size+16)
	if err != nil {
		return nil, err
	}
	one := big.NewInt(1)
	d := new(big.Int).SetBytes(b)
	d.Mod(d, new(big.Int).Sub(order, one)).Add(d, one)
	key, err := ecdsa.ParseRawPrivateKey(curve, d.FillBytes(make([]byte, size)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	return key, nil
}

// sign returns r and s of the deterministic ECDSA signature (RFC 6979): the same report
// has the same bytes at each run.
func sign(key *ecdsa.PrivateKey, hash crypto.Hash, message []byte) (r, s *big.Int, err error) {
	h := hash.New()
	h.Write(message)
	der, err := key.Sign(nil, h.Sum(nil), hash)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	var v struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &v); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	return v.R, v.S, nil
}
