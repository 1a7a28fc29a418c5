package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"

	sevabi "github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/proto/sevsnp"
	sevverify "github.com/google/go-sev-guest/verify"
	"github.com/google/go-tdx-guest/pcs"
	tdxverify "github.com/google/go-tdx-guest/verify"
	"github.com/google/uuid"

	"keel/diag/attest"
)

// TestForgedSNP makes a chain with AMD's names and keys of its own. A verifier that
// leaves the choice of roots to go-sev-guest takes it; Verify must not, allowed or not.
func TestForgedSNP(t *testing.T) {
	name := func(cn string) pkix.Name {
		return pkix.Name{
			Country: []string{"US"}, Locality: []string{"Santa Clara"}, Province: []string{"CA"}, Organization: []string{"Advanced Micro Devices"},
			OrganizationalUnit: []string{"Engineering"}, CommonName: cn,
		}
	}
	ark, ask := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048)), must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	vcek := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	certify := func(cn string, ca bool, extensions []pkix.Extension, parent *x509.Certificate, key crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
		c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: name(cn), NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0), SignatureAlgorithm: x509.SHA384WithRSAPSS, ExtraExtensions: extensions}
		if ca {
			c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
			c.CRLDistributionPoints = []string{"https://kdsintf.amd.com/vcek/v1/Milan/crl"}
		}
		if parent == nil {
			parent = c
		}
		return must[*x509.Certificate](t)(x509.ParseCertificate(must[[]byte](t)(x509.CreateCertificate(rand.Reader, c, parent, key, signer))))
	}
	arkCert := certify("ARK-Milan", true, nil, nil, ark.Public(), ark)
	askCert := certify("SEV-Milan", true, nil, arkCert, ask.Public(), ark)

	e := snp(t)
	good := must[*x509.Certificate](t)(x509.ParseCertificate(entry(e.Certificates, 0)))
	var extensions []pkix.Extension
	for _, x := range good.Extensions {
		if x.Id[0] == 1 { // AMD's own
			extensions = append(extensions, x)
		}
	}
	vcekCert := certify("SEV-VCEK", false, extensions, askCert, vcek.Public(), ask)

	h := crypto.SHA384.New()
	h.Write(e.Report[:0x2a0])
	r, s, err := ecdsa.Sign(rand.Reader, vcek, h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := sevabi.SetSignature(r, s, e.Report); err != nil {
		t.Fatal(err)
	}
	e.Certificates = table(vcekCert.Raw, askCert.Raw, arkCert.Raw)

	a := must[*sevsnp.Attestation](t)(sevabi.ReportCertsToProto(append(bytes.Clone(e.Report), e.Certificates...)))
	if err := sevverify.SnpAttestation(a, &sevverify.Options{DisableCertFetching: true, Now: now}); err != nil {
		t.Logf("the library refuses by itself now: %v", err)
	}
	for _, allowed := range []bool{false, true} {
		if _, err := attest.Verify(e, expect(t, e.Kind), &attest.Options{Now: now, AllowEmulated: allowed}); !errors.Is(err, attest.ErrChain) {
			t.Errorf("emulated allowed %v: %v", allowed, err)
		}
	}
}

// entry returns a certificate of a table.
func entry(table []byte, i int) []byte {
	at, n := binary.LittleEndian.Uint32(table[24*i+16:]), binary.LittleEndian.Uint32(table[24*i+20:])
	return table[at:][:n]
}

// table packs VCEK, ASK and ARK, under the GUIDs of the emulated table.
func table(certs ...[]byte) []byte {
	c := &sevabi.CertTable{}
	for i, guid := range []string{sevabi.VcekGUID, sevabi.AskGUID, sevabi.ArkGUID} {
		c.Entries = append(c.Entries, sevabi.CertTableEntry{GUID: uuid.MustParse(guid), RawCert: certs[i]})
	}
	return c.Marshal()
}

// TestForgedTDX makes a chain with Intel's names and keys of its own, and has it speak for
// an otherwise good quote.
func TestForgedTDX(t *testing.T) {
	e := quote(t)
	const enclaveAt = 636 + 128 + 6
	chainAt := enclaveAt + 384 + 64 + 2 + 32 + 6
	block, _ := pem.Decode(e.Report[chainAt:])
	good := must[*x509.Certificate](t)(x509.ParseCertificate(block.Bytes))
	var platform []pkix.Extension
	for _, x := range good.Extensions {
		if x.Id.Equal(pcs.OidSgxExtension) {
			platform = append(platform, x)
		}
	}

	var parent *x509.Certificate
	var signer, key *ecdsa.PrivateKey
	var chain []byte
	for i, cn := range []string{"Intel SGX Root CA", "Intel SGX PCK Platform CA", "Intel SGX PCK Certificate"} {
		key = must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0), SubjectKeyId: []byte{byte(i)},
			Subject:               pkix.Name{CommonName: cn, Organization: []string{"Intel Corporation"}, Locality: []string{"Santa Clara"}, Province: []string{"CA"}, Country: []string{"US"}},
			BasicConstraintsValid: true, IsCA: i < 2, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, CRLDistributionPoints: []string{"https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"},
		}
		if i == 2 {
			c.KeyUsage, c.ExtraExtensions = x509.KeyUsageDigitalSignature, platform
		}
		if parent == nil {
			parent, signer = c, key
		}
		made := must[*x509.Certificate](t)(x509.ParseCertificate(must[[]byte](t)(x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer))))
		chain = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Raw}), chain...)
		parent, signer = made, key
	}

	// The quoting enclave says that it is Intel's, as its report is forged too.
	intel := must[[]byte](t)(hex.DecodeString("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5"))
	copy(e.Report[enclaveAt+128:], intel)
	sum := sha256.Sum256(e.Report[enclaveAt:][:384])
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	b := append(bytes.Clone(e.Report[:chainAt]), chain...)
	r.FillBytes(b[enclaveAt+384:][:32])
	s.FillBytes(b[enclaveAt+416:][:32])
	binary.LittleEndian.PutUint32(b[chainAt-4:], uint32(len(chain)))
	binary.LittleEndian.PutUint32(b[enclaveAt-4:], uint32(len(b)-enclaveAt))
	binary.LittleEndian.PutUint32(b[632:], uint32(len(b)-636))
	e.Report = b

	// All is right but for the root.
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(chain) {
		t.Fatal("no certificates")
	}
	if err := tdxverify.RawTdxQuote(e.Report, at(&tdxverify.Options{TrustedRoots: pool})); err != nil {
		t.Fatal(err)
	}
	for _, allowed := range []bool{false, true} {
		if _, err := attest.Verify(e, expect(t, e.Kind), &attest.Options{Now: now, AllowEmulated: allowed}); !errors.Is(err, attest.ErrChain) {
			t.Errorf("emulated allowed %v: %v", allowed, err)
		}
	}
}
