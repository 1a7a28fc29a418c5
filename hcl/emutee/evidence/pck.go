package evidence

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
)

// pckCA signs the PCKs' certificates. The root's private key does not exist any more.
var pckCA = load("pck_ca.pem", "pck_ca_key.pem")

// Chain returns the PCK's certificate chain as PEM: leaf, CA, root.
func (p *Platform) Chain() ([]byte, error) {
	b, err := p.chain()
	return slices.Clone(b), err
}

// certificates makes the chain.
func (p *Platform) certificates() ([]byte, error) {
	issuer, err := pckCA()
	if err != nil {
		return nil, err
	}
	extension, err := p.sgxExtension()
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(p.ppid)
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(append([]byte{1}, id[:15]...)),
		Subject:      pkix.Name{CommonName: "Intel SGX PCK Certificate", Organization: []string{"Keel EMULATED, not Intel"}},
		NotBefore:    issuer.cert.NotBefore, NotAfter: issuer.cert.NotAfter,
		SignatureAlgorithm: x509.ECDSAWithSHA256,
		// The profile has these six extensions and no others.
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, SubjectKeyId: id[:20],
		CRLDistributionPoints: []string{"https://emulated.invalid/pck.crl"},
		ExtraExtensions:       []pkix.Extension{extension},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, p.pck.Public(), issuer.key)
	if err != nil {
		return nil, fmt.Errorf("%w: PCK: %w", ErrKeys, err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for _, name := range []string{"pck_ca.pem", "pck_root.pem"} {
		_, text, err := file(name)
		if err != nil {
			return nil, err
		}
		chain = append(chain, text...)
	}
	return chain, nil
}

// attribute is an OID with a value of any type.
type attribute struct {
	ID    asn1.ObjectIdentifier
	Value any
}

// sgxExtension says which platform the PCK is of, and its TCB (Intel SGX PCK Certificate
// and CRL Profile, section 1.3.5).
func (p *Platform) sgxExtension() (pkix.Extension, error) {
	tcb := make([]attribute, 0, arcCPUSVN)
	for i := range len(svnCPU) {
		tcb = append(tcb, attribute{sgxOID(arcTCB, i+1), int(svnCPU[i])})
	}
	tcb = append(tcb, attribute{sgxOID(arcTCB, arcPCESVN), svnPCE}, attribute{sgxOID(arcTCB, arcCPUSVN), []byte(svnCPU)})
	all := []attribute{
		{sgxOID(arcPPID), p.ppid},
		{sgxOID(arcTCB), tcb},
		{sgxOID(arcPCEID), []byte(pceID)},
		{sgxOID(arcFMSPC), []byte(fmspc)},
		{sgxOID(arcSGXType), asn1.Enumerated(sgxStandard)},
	}
	b, err := asn1.Marshal(all)
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	return pkix.Extension{Id: sgxOID(), Value: b}, nil
}

func sgxOID(arcs ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}, arcs...)
}
