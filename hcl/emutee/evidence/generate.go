//go:build ignore

// Generate makes the emulated roots anew: keys and certificates under keys/, and the
// copies of the certificates that a verifier embeds. The two roots' private keys are not
// kept, since all that a root signs is made here.
//
// Run it in this folder: go run generate.go
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log"
	"math/big"
	"os"
	"time"
)

const (
	here     = "keys/"
	verifier = "../../../diag/attest/roots/"
	tests    = "../../../tests/attest/testdata/"
)

var (
	from = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	to   = time.Date(2049, 12, 31, 0, 0, 0, 0, time.UTC)
)

// amd is the subject that go-sev-guest wants of an ASK, with the street as the only
// free place to say what it is.
func amd(cn, street string) pkix.Name {
	return pkix.Name{
		Country: []string{"US"}, Locality: []string{"Santa Clara"}, Province: []string{"CA"},
		Organization: []string{"Advanced Micro Devices"}, OrganizationalUnit: []string{"Engineering"},
		CommonName: cn, StreetAddress: []string{street},
	}
}

func intel(cn string) pkix.Name {
	return pkix.Name{CommonName: cn, Organization: []string{"Keel EMULATED, not Intel"}}
}

func main() {
	ark, ask := must(rsa.GenerateKey(rand.Reader, 4096)), must(rsa.GenerateKey(rand.Reader, 4096))
	arkCert := authority(x509.SHA384WithRSAPSS, 1, pkix.Name{CommonName: "Keel EMULATED ARK, not AMD", Organization: []string{"Keel"}}, "", nil, ark, ark)
	askCert := authority(x509.SHA384WithRSAPSS, 2, amd("SEV-Milan", "Keel EMULATED ASK, not AMD"), "", arkCert, ask, ark)
	put("CERTIFICATE", arkCert.Raw, here+"ark.pem", verifier+"emulated_ark.pem")
	put("CERTIFICATE", askCert.Raw, here+"ask.pem", verifier+"emulated_ask.pem")
	put("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ask)), here+"ask_key.pem")
	put("X509 CRL", crl(x509.SHA384WithRSAPSS, arkCert, ark), here+"ark_crl.pem")
	put("X509 CRL", crl(x509.SHA384WithRSAPSS, arkCert, ark, askCert.SerialNumber), tests+"ark_revokes_ask.pem")

	const crlURL = "https://emulated.invalid/root.crl"
	root, ca, tcb := ec(), ec(), ec()
	rootCert := authority(x509.ECDSAWithSHA256, 1, intel("Intel SGX Root CA"), crlURL, nil, root, root)
	caCert := authority(x509.ECDSAWithSHA256, 2, intel("Intel SGX PCK Platform CA"), crlURL, rootCert, ca, root)
	tcbCert := leaf(3, intel("Intel SGX TCB Signing"), crlURL, rootCert, tcb, root)
	put("CERTIFICATE", rootCert.Raw, here+"pck_root.pem", verifier+"emulated_pck_root.pem")
	put("CERTIFICATE", caCert.Raw, here+"pck_ca.pem")
	put("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ca)), here+"pck_ca_key.pem")
	put("CERTIFICATE", tcbCert.Raw, here+"tcb_signing.pem")
	put("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(tcb)), here+"tcb_signing_key.pem")
	put("X509 CRL", crl(x509.ECDSAWithSHA256, rootCert, root), here+"pck_root_crl.pem")
	put("X509 CRL", crl(x509.ECDSAWithSHA256, caCert, ca), here+"pck_ca_crl.pem")
	put("X509 CRL", crl(x509.ECDSAWithSHA256, rootCert, root, caCert.SerialNumber), tests+"pck_root_revokes_ca.pem")
}

func ec() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func keyID(k crypto.Signer) []byte {
	sum := sha1.Sum(must(x509.MarshalPKIXPublicKey(k.Public())))
	return sum[:]
}

func authority(alg x509.SignatureAlgorithm, serial int64, name pkix.Name, url string, parent *x509.Certificate, key, signer crypto.Signer) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: name, NotBefore: from, NotAfter: to, SignatureAlgorithm: alg, SubjectKeyId: keyID(key),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return sign(t, url, parent, key, signer)
}

func leaf(serial int64, name pkix.Name, url string, parent *x509.Certificate, key, signer crypto.Signer) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: name, NotBefore: from, NotAfter: to, SignatureAlgorithm: x509.ECDSAWithSHA256,
		SubjectKeyId: keyID(key), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	return sign(t, url, parent, key, signer)
}

func sign(t *x509.Certificate, url string, parent *x509.Certificate, key, signer crypto.Signer) *x509.Certificate {
	if url != "" {
		t.CRLDistributionPoints = []string{url}
	}
	if parent == nil {
		parent = t
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer))))
}

func crl(alg x509.SignatureAlgorithm, issuer *x509.Certificate, key crypto.Signer, revoked ...*big.Int) []byte {
	t := &x509.RevocationList{SignatureAlgorithm: alg, Number: big.NewInt(1), ThisUpdate: from, NextUpdate: to}
	for _, serial := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: from})
	}
	return must(x509.CreateRevocationList(rand.Reader, t, issuer, key))
}

func put(kind string, der []byte, files ...string) {
	for _, f := range files {
		if err := os.WriteFile(f, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
