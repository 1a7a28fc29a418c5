package claims

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
)

// Key ids of runtime claims (OpenHCL, runtime_claims).
const (
	KeyAK = "HCLAkPub" // signs the TPM's quotes
	KeyEK = "HCLEkPub"
)

const maxKeys = 8

// RuntimeClaims is the JSON behind a report in the TPM (OpenHCL, runtime_claims).
type RuntimeClaims struct {
	Keys          []Key         `json:"keys"`
	Configuration Configuration `json:"vm-configuration"`
	UserData      string        `json:"user-data,omitempty"` // hex
}

// Configuration is what the claims say of the VM. Isolation is Keel's own. What is rarely
// set is left out then, since the indices of libtpms are small.
type Configuration struct {
	CurrentTime         *int64 `json:"current-time,omitempty"` // seconds since 1970
	RootCertThumbprint  string `json:"root-cert-thumbprint,omitempty"`
	ConsoleEnabled      bool   `json:"console-enabled"`
	InteractiveConsole  bool   `json:"interactive-console-enabled,omitempty"`
	SecureBoot          bool   `json:"secure-boot"`
	TPMEnabled          bool   `json:"tpm-enabled"`
	TPMPersisted        bool   `json:"tpm-persisted"`
	FilteredVPCIDevices bool   `json:"filtered-vpci-devices-allowed,omitempty"`
	UniqueID            string `json:"vmUniqueId"`
	Isolation           string `json:"isolation,omitempty"` // "snp", "tdx", "none"
}

// Key is a JSON web key (RFC 7517, RFC 7518 section 6): RSA with n and e, or EC over
// P-256 with crv, x and y.
type Key struct {
	ID         string   `json:"kid"`
	Operations []string `json:"key_ops"`
	Type       string   `json:"kty"`
	E          string   `json:"e,omitempty"`
	N          string   `json:"n,omitempty"`
	Curve      string   `json:"crv,omitempty"`
	X          string   `json:"x,omitempty"`
	Y          string   `json:"y,omitempty"`
}

var base64url = base64.RawURLEncoding.Strict()

const (
	typeRSA   = "RSA"
	typeEC    = "EC"
	curveP256 = "P-256"
)

// NewKey describes a public key of the TPM under one of the key ids. Its error is
// ErrFormat for other keys than RSA and P-256.
func NewKey(id string, pub crypto.PublicKey) (Key, error) {
	k := Key{ID: id, Operations: []string{"sign"}}
	if id == KeyEK {
		k.Operations = []string{"encrypt"}
	}
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		k.Type, k.N, k.E = typeRSA, base64url.EncodeToString(pub.N.Bytes()), base64url.EncodeToString(big.NewInt(int64(pub.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil || pub.Curve != elliptic.P256() {
			return k, fmt.Errorf("%w: %s is not over P-256", ErrFormat, id)
		}
		k.Type, k.Curve, k.X, k.Y = typeEC, curveP256, base64url.EncodeToString(point[1:33]), base64url.EncodeToString(point[33:])
	default:
		return k, fmt.Errorf("%w: %s is a %T; give RSA or P-256", ErrFormat, id, pub)
	}
	return k, nil
}

// Public returns the key. Its errors are ErrFormat.
func (k *Key) Public() (crypto.PublicKey, error) {
	number := func(s string, limit int) ([]byte, error) {
		b, err := base64url.DecodeString(s)
		if err != nil || len(b) == 0 || len(b) > limit {
			return nil, fmt.Errorf("%w: a number of %s is unusable", ErrFormat, k.ID)
		}
		return b, nil
	}
	switch {
	case k.Type == typeRSA:
		n, err := number(k.N, 512)
		if err != nil {
			return nil, err
		}
		e, err := number(k.E, 4)
		if err != nil {
			return nil, err
		}
		pub := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		if pub.N.BitLen() < 2048 || pub.N.Bit(0) == 0 || pub.E < 3 || pub.E&1 == 0 || pub.E > 1<<31-1 {
			return nil, fmt.Errorf("%w: %s is no RSA key of 2,048 bits or more", ErrFormat, k.ID)
		}
		return pub, nil
	case k.Type == typeEC && k.Curve == curveP256:
		x, err := number(k.X, 32)
		if err != nil {
			return nil, err
		}
		y, err := number(k.Y, 32)
		if err != nil {
			return nil, err
		}
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		if err != nil {
			return nil, fmt.Errorf("%w: %s is no point of P-256", ErrFormat, k.ID)
		}
		return pub, nil
	}
	return nil, fmt.Errorf("%w: %s has type %.16q; RSA and P-256 are known", ErrFormat, k.ID, k.Type)
}

// Marshal returns the claims as JSON, in the order in which Azure has them.
func (c *RuntimeClaims) Marshal() ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return b, nil
}

// ParseRuntime decodes runtime claims. Members that it does not know are skipped, as
// newer paravisors have more of them.
func ParseRuntime(b []byte) (*RuntimeClaims, error) {
	if len(b) > MaxRuntime {
		return nil, fmt.Errorf("%w: runtime claims of %d bytes; at most %d are read", ErrSize, len(b), MaxRuntime)
	}
	var c RuntimeClaims
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("%w: runtime claims: %w", ErrFormat, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: bytes after the runtime claims", ErrFormat)
	}
	if len(c.Keys) > maxKeys {
		return nil, fmt.Errorf("%w: %d keys in the runtime claims; at most %d are read", ErrSize, len(c.Keys), maxKeys)
	}
	return &c, nil
}

// Key returns the only key with an id, or ErrFormat.
func (c *RuntimeClaims) Key(id string) (crypto.PublicKey, error) {
	var found *Key
	for i := range c.Keys {
		if c.Keys[i].ID != id {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%w: two keys %s in the runtime claims", ErrFormat, id)
		}
		found = &c.Keys[i]
	}
	if found == nil {
		return nil, fmt.Errorf("%w: no key %s in the runtime claims", ErrFormat, id)
	}
	return found.Public()
}
