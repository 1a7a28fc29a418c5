package measure

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"keel/boot/handoff"
)

// ErrKey says that a signing key cannot be used.
var ErrKey = errors.New("signing key refused")

// maxKeyBytes bounds what ReadKey reads: a key has a few hundred bytes.
const maxKeyBytes = 64 << 10

// Remedies.
const (
	remedyNewKey  = "make one with `openssl ecparam -name secp384r1 -genkey -noout -out FILE`"
	remedyDecrypt = "write a decrypted copy with `openssl pkey -in FILE -out COPY` and give that"
)

// badKey returns the one-line error of a key: what is the matter, what to do.
func badKey(name, cause, remedy string, err error) error {
	if err == nil {
		err = ErrKey
	} else {
		err = fmt.Errorf("%w: %w", ErrKey, err)
	}
	return &handoff.Failure{Outcome: handoff.OutcomeBadConfig, Cause: "key " + name + " " + cause, Remedy: remedy, Err: err}
}

// ReadKey reads a signing key from a PEM file. Its errors are *handoff.Failure
// around ErrKey.
func ReadKey(path string) (*ecdsa.PrivateKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, badKey(path, "cannot be read", "check the path and its permissions", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyBytes+1))
	if err != nil {
		return nil, badKey(path, "cannot be read", "give a file", err)
	}
	return ParseKey(path, b)
}

// ParseKey reads an ECDSA P-384 private key in PEM, in SEC 1 or PKCS #8. name is
// for the error, which is a *handoff.Failure around ErrKey.
func ParseKey(name string, b []byte) (*ecdsa.PrivateKey, error) {
	if len(b) > maxKeyBytes {
		return nil, badKey(name, "is too large for a key", remedyNewKey, nil)
	}
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			return nil, badKey(name, "has no private key in PEM", remedyNewKey, nil)
		}
		// openssl writes the name of the curve in front of the key.
		if block.Type == "EC PARAMETERS" {
			b = rest
			continue
		}
		return parseBlock(name, block)
	}
}

func parseBlock(name string, block *pem.Block) (*ecdsa.PrivateKey, error) {
	var key any
	var err error
	switch {
	// RFC 1421, 4.6.1.1, as older openssl writes it, or PKCS #8.
	case block.Type == "ENCRYPTED PRIVATE KEY", strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
		return nil, badKey(name, "is encrypted", remedyDecrypt, nil)
	case block.Type == "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case block.Type == "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case block.Type == "PUBLIC KEY", block.Type == "CERTIFICATE":
		return nil, badKey(name, "is only the public half ("+block.Type+")", "give the private key", nil)
	default:
		return nil, badKey(name, fmt.Sprintf("is of type %.40q, not an ECDSA P-384 key", block.Type), remedyNewKey, nil)
	}
	if err != nil {
		return nil, badKey(name, "cannot be decoded, or is on a curve other than P-384", remedyNewKey, err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	switch {
	case !ok:
		return nil, badKey(name, fmt.Sprintf("is %T, not an ECDSA P-384 key", key), remedyNewKey, nil)
	case ec.Curve != elliptic.P384():
		return nil, badKey(name, "is on "+ec.Curve.Params().Name+", firmware takes P-384 only", remedyNewKey, nil)
	}
	return ec, nil
}
