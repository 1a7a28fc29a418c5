package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"time"
)

// testKey is where the test CA's private key comes from. It is public: whoever has
// this program can issue the same certificates.
const testKey = "Keel vTPM test CA: this private key is public"

// Names of the test CA. They must be seen in every tool that shows a certificate.
const (
	testOrganization = "Keel TEST - NOT TRUSTED"
	testCommonName   = "Keel vTPM TEST CA - PUBLIC KEY MATERIAL - DO NOT TRUST"
)

// The test CA's certificates say nothing about time, so that the same key has the same
// certificate always. 9999-12-31 means that there is no end (RFC 5280 §4.1.2.5).
var (
	testNotBefore = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	testNotAfter  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// TestCA is the built-in Issuer. What it issues proves nothing, and says so: its
// purpose is that tools which want certificates find some.
type TestCA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// NewTestCA returns the test CA, which is the same one each time.
func NewTestCA() (*TestCA, error) {
	seed := sha256.Sum256([]byte(testKey))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])
	if err != nil {
		return nil, err
	}
	root := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{Organization: []string{testOrganization}, CommonName: testCommonName},
		NotBefore:             testNotBefore,
		NotAfter:              testNotAfter,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	ca := &TestCA{key: key, cert: root}
	der, err := ca.sign(root, key.Public())
	if err != nil {
		return nil, err
	}
	ca.cert, err = x509.ParseCertificate(der)
	return ca, err
}

// Certificate returns the CA's own certificate. It must not be modified.
func (ca *TestCA) Certificate() *x509.Certificate { return ca.cert }

// Issue implements Issuer. Equal requests give equal bytes.
func (ca *TestCA) Issue(req Request) ([]byte, error) {
	t, err := req.Template()
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(req.Public)
	id[0] = id[0]&0x7f | 0x40 // a positive number of full length
	t.SerialNumber = new(big.Int).SetBytes(id[:16])
	purpose := "EK"
	if req.Purpose == PurposeAK {
		purpose = "AK"
	}
	t.Subject = pkix.Name{
		Organization: []string{testOrganization},
		CommonName:   "TEST vTPM " + purpose + " " + hex.EncodeToString(id[16:24]),
	}
	t.SubjectKeyId = id[:20]
	t.NotBefore, t.NotAfter = testNotBefore, testNotAfter
	return ca.sign(t, req.Key)
}

// sign signs without randomness (RFC 6979).
func (ca *TestCA) sign(t *x509.Certificate, key any) ([]byte, error) {
	return x509.CreateCertificate(nil, t, ca.cert, key, ca.key)
}
