package measure

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keel/boot/handoff"
)

func pemOf(kind string, der []byte, headers ...string) []byte {
	b := &pem.Block{Type: kind, Bytes: der}
	if len(headers) > 0 {
		b.Headers = map[string]string{headers[0]: headers[1]}
	}
	return pem.EncodeToMemory(b)
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestParseKey(t *testing.T) {
	der := must[[]byte](t)
	k := newKey(t, elliptic.P384())
	sec1, pkcs8 := der(x509.MarshalECPrivateKey(k)), der(x509.MarshalPKCS8PrivateKey(k))
	// OID 1.3.132.0.34, as `openssl ecparam -genkey` writes it in front.
	parameters := pemOf("EC PARAMETERS", []byte{6, 5, 0x2b, 0x81, 4, 0, 0x22})
	good := map[string][]byte{
		"SEC 1": pemOf("EC PRIVATE KEY", sec1), "PKCS #8": pemOf("PRIVATE KEY", pkcs8),
		"openssl ecparam": append(parameters, pemOf("EC PRIVATE KEY", sec1)...),
		"text in front":   append([]byte("my key\n"), pemOf("PRIVATE KEY", pkcs8)...),
	}
	for name, b := range good {
		if got, err := ParseKey(name, b); err != nil || !got.Equal(k) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p256 := newKey(t, elliptic.P256())
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		b    []byte
		text string
	}{
		{"empty", nil, "has no private key in PEM; make one with"},
		{"DER", sec1, "has no private key in PEM"},
		{"only parameters", parameters, "has no private key in PEM"},
		{"huge", make([]byte, maxKeyBytes+1), "too large"},
		{"garbage", pemOf("EC PRIVATE KEY", []byte("garbage")), "cannot be decoded"},
		{"truncated", pemOf("PRIVATE KEY", pkcs8[:len(pkcs8)-9]), "cannot be decoded"},
		{"encrypted PKCS #8", pemOf("ENCRYPTED PRIVATE KEY", pkcs8), "is encrypted"},
		{"encrypted SEC 1", pemOf("EC PRIVATE KEY", sec1, "Proc-Type", "4,ENCRYPTED"), "is encrypted"},
		{"P-256", pemOf("EC PRIVATE KEY", der(x509.MarshalECPrivateKey(p256))), "is on P-256"},
		{"P-521", pemOf("PRIVATE KEY", der(x509.MarshalPKCS8PrivateKey(newKey(t, elliptic.P521())))), "is on P-521"},
		{"Ed25519", pemOf("PRIVATE KEY", der(x509.MarshalPKCS8PrivateKey(ed))), "not an ECDSA P-384 key"},
		{"public key", pemOf("PUBLIC KEY", der(x509.MarshalPKIXPublicKey(&k.PublicKey))), "only the public half"},
		{"certificate", pemOf("CERTIFICATE", []byte{0x30}), "only the public half"},
		{"RSA", pemOf("RSA PRIVATE KEY", []byte{0x30}), `"RSA PRIVATE KEY"`},
	} {
		got, err := ParseKey("k.pem", tt.b)
		f, ok := errors.AsType[*handoff.Failure](err)
		if !ok || got != nil || !errors.Is(err, ErrKey) || f.Remedy == "" || f.Outcome != handoff.OutcomeBadConfig {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		line := err.Error()
		if want, _, _ := strings.Cut(tt.text, ";"); !strings.Contains(line, want) || strings.Contains(line, "\n") ||
			!strings.HasPrefix(line, "key k.pem ") || !strings.HasSuffix(line, f.Remedy) {
			t.Errorf("%s: %q", tt.name, line)
		}
	}
}

func TestReadKey(t *testing.T) {
	dir := t.TempDir()
	k := newKey(t, elliptic.P384())
	path := filepath.Join(dir, "id.pem")
	if err := os.WriteFile(path, pemOf("EC PRIVATE KEY", must[[]byte](t)(x509.MarshalECPrivateKey(k))), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := must[*ecdsa.PrivateKey](t)(ReadKey(path)); !got.Equal(k) {
		t.Error("another key")
	}
	for name, path := range map[string]string{"missing": filepath.Join(dir, "none"), "folder": dir} {
		if _, err := ReadKey(path); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "cannot be read") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
