package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
)

// Purpose says what a certified key is for.
type Purpose uint8

// Purposes.
const (
	PurposeEK Purpose = iota // endorsement key: proves that the TPM is genuine
	PurposeAK                // attestation key: signs quotes
)

// Request asks for a certificate. Its key comes from the TPM itself, made from its
// endorsement seed with one of Keel's templates, never from what lies at a handle.
type Request struct {
	Purpose Purpose
	Key     crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey
	Public  []byte           // its TPMT_PUBLIC
	EK      []byte           // TPMT_PUBLIC of the RSA EK of the same TPM, nil where there is none
	Maker   Maker
}

// Issuer is a CA.
type Issuer interface {
	// Issue returns an X.509 certificate in DER for the key. It is called again
	// after an interruption and may then return another certificate.
	Issue(Request) ([]byte, error)
}

// ErrIssuer reports an Issuer that failed, or whose certificate is of no use.
var ErrIssuer = errors.New("certificate authority")

// maxCertificate bounds a certificate in bytes, whatever the TPM holds.
const maxCertificate = 4096

// issue gets a certificate and checks that it is for the key and fits.
func issue(ca Issuer, req Request, limit int) ([]byte, error) {
	der, err := ca.Issue(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	if limit = min(limit, maxCertificate); len(der) > limit {
		return nil, fmt.Errorf("%w: its certificate of %d bytes does not fit in an NV index of %d", ErrIssuer, len(der), limit)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	if !sameKey(cert.PublicKey, req.Key) {
		return nil, fmt.Errorf("%w: its certificate is for another key", ErrIssuer)
	}
	return der, nil
}

// sameKey compares public keys; those of crypto/rsa and crypto/ecdsa have Equal.
func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// Object identifiers (EK Credential Profile 2.5, annex A; RFC 5280).
var (
	oidManufacturer      = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidModel             = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidVersion           = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
	oidSpecification     = asn1.ObjectIdentifier{2, 23, 133, 2, 16}
	oidKPEKCertificate   = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidKPAIKCertificate  = asn1.ObjectIdentifier{2, 23, 133, 8, 3}
	oidSubjectAltName    = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidSubjectAttributes = asn1.ObjectIdentifier{2, 5, 29, 9}
)

// Template returns what the profile asks of a certificate for the request: extensions
// and key usage. The issuer adds serial number, subject and validity.
func (req Request) Template() (*x509.Certificate, error) {
	san, err := req.Maker.alternativeName()
	if err != nil {
		return nil, err
	}
	attributes, err := req.Maker.specification()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		BasicConstraintsValid: true, // and no CA
		ExtraExtensions: []pkix.Extension{
			{Id: oidSubjectAltName, Value: san},
			{Id: oidSubjectAttributes, Value: attributes},
		},
	}
	_, ecc := req.Key.(*ecdsa.PublicKey)
	switch {
	case req.Purpose == PurposeAK:
		t.KeyUsage = x509.KeyUsageDigitalSignature
		t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidKPAIKCertificate}
	case ecc:
		t.KeyUsage = x509.KeyUsageKeyAgreement
		t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidKPEKCertificate}
	default:
		t.KeyUsage = x509.KeyUsageKeyEncipherment
		t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidKPEKCertificate}
	}
	return t, nil
}

func utf8String(s string) asn1.RawValue {
	return asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(s)}
}

// alternativeName returns the subject alternative name, a directory name with
// manufacturer, model and version of the TPM (EK Credential Profile 2.5, §3.2.9).
func (m Maker) alternativeName() ([]byte, error) {
	model := m.Model
	if model == "" {
		model = "unknown"
	}
	name, err := asn1.Marshal(pkix.RDNSequence{
		{{Type: oidManufacturer, Value: utf8String(fmt.Sprintf("id:%08X", m.Manufacturer))}},
		{{Type: oidModel, Value: utf8String(model)}},
		{{Type: oidVersion, Value: utf8String(fmt.Sprintf("id:%08X", m.Version))}},
	})
	if err != nil {
		return nil, err
	}
	const directoryName = 4
	return asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: directoryName, IsCompound: true, Bytes: name}})
}

// specification returns the subject directory attributes: the specification that the
// TPM follows (EK Credential Profile 2.5, §3.2.10).
func (m Maker) specification() ([]byte, error) {
	type spec struct {
		Family          string `asn1:"utf8"`
		Level, Revision int
	}
	type attribute struct {
		Type   asn1.ObjectIdentifier
		Values []spec `asn1:"set"`
	}
	return asn1.Marshal([]attribute{{oidSpecification, []spec{{"2.0", int(m.Level), int(m.Revision)}}}})
}
