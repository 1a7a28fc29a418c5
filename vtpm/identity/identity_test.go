package identity

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"keel/diag/attest/claims"
	"keel/vtpm/eventlog"
	"keel/vtpm/identity/identitytest"
)

// TestManufacture reads back with go-tpm what the profiles ask for.
func TestManufacture(t *testing.T) {
	tpm := identitytest.Start(t, nil)
	p := boot(t, tpm)
	if len(p.Skipped()) != 0 {
		t.Errorf("skipped %v", p.Skipped())
	}
	if banks, err := Banks(tpm); err != nil || !slices.Equal(banks, []eventlog.Algorithm{eventlog.SHA256, eventlog.SHA384}) {
		t.Errorf("banks %v, %v", banks, err)
	}
	for handle, want := range map[tpm2.TPMHandle]tpm2.TPMTPublic{
		HandleSRK: tpm2.RSASRKTemplate, HandleEKRSA: tpm2.RSAEKTemplate, HandleEKECC: tpm2.ECCEKTemplate,
		HandleAK: {
			Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{
				FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true,
				Restricted: true, SignEncrypt: true,
			},
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
				Scheme: tpm2.TPMTRSAScheme{
					Scheme:  tpm2.TPMAlgRSASSA,
					Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256}),
				},
				Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}, KeyBits: 2048,
			}),
			Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: make([]byte, rsaBytes)}),
		},
	} {
		rsp, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(tpm)
		if err != nil {
			t.Errorf("%#x: %v", handle, err)
			continue
		}
		unique := 2 + rsaBytes
		if want.Type == tpm2.TPMAlgECC {
			unique = 2 * (2 + p256Bytes)
		}
		template := tpm2.Marshal(want)
		if got := rsp.OutPublic.Bytes(); !bytes.HasPrefix(got, template[:len(template)-unique]) {
			t.Errorf("%#x: %x is no %x", handle, got, template)
		}
	}
	props, err := readProperties(tpm)
	if err != nil {
		t.Fatal(err)
	}
	for pt, want := range map[uint32]uint32{ptMaxAuthFail: 32, ptLockoutInterval: 600, ptLockoutRecovery: 86400, ptPermanent: 0x400} {
		if props[pt] != want {
			t.Errorf("property %#x is %d, want %d", pt, props[pt], want)
		}
	}
	sizes := map[uint32]uint32{IndexReport: 0x62070001}
	for index := range indices {
		sizes[index] = 0x62072801 // with WRITTEN, WRITELOCKED and WRITEDEFINE
	}
	for index, want := range sizes {
		if got, err := nvReadPublic(tpm, index); err != nil || got == nil || got.attributes != want {
			t.Errorf("NV index %#x: %+v, %v; want attributes %#x", index, got, err, want)
		}
	}
}

func TestCertificates(t *testing.T) {
	tpm := identitytest.Start(t, nil)
	p := boot(t, tpm)
	id := identityOf(t, tpm)
	roots := x509.NewCertPool()
	roots.AddCert(testCA(t).Certificate())
	for index, want := range map[uint32]struct {
		usage x509.KeyUsage
		eku   asn1.ObjectIdentifier
	}{
		IndexEKRSA: {x509.KeyUsageKeyEncipherment, asn1.ObjectIdentifier{2, 23, 133, 8, 1}},
		IndexEKECC: {x509.KeyUsageKeyAgreement, asn1.ObjectIdentifier{2, 23, 133, 8, 1}},
		IndexAK:    {x509.KeyUsageDigitalSignature, asn1.ObjectIdentifier{2, 23, 133, 8, 3}},
	} {
		cert := certificate(t, id[index])
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Errorf("%#x: %v", index, err)
		}
		if cert.KeyUsage != want.usage || len(cert.UnknownExtKeyUsage) != 1 || !cert.UnknownExtKeyUsage[0].Equal(want.eku) || cert.IsCA {
			t.Errorf("%#x: usage %v %v, CA %v", index, cert.KeyUsage, cert.UnknownExtKeyUsage, cert.IsCA)
		}
		// The key is the one at the handle.
		key, err := indices[index].template.key(id[indices[index].handle])
		if err != nil || !sameKey(key, cert.PublicKey) || !sameKey(key, p.Key(indices[index].handle)) {
			t.Errorf("%#x: another key, %v", index, err)
		}
		for _, name := range []string{cert.Issuer.String(), cert.Subject.String()} {
			if !strings.Contains(name, "TEST") || !strings.Contains(name, "NOT TRUSTED") {
				t.Errorf("%#x: the name %q does not say that it is for tests", index, name)
			}
		}
		var san []byte
		for _, e := range cert.Extensions {
			if e.Id.Equal(oidSubjectAltName) {
				san = e.Value
			}
		}
		for _, part := range []string{"id:49424D00", "SW TPM", "id:20191023"} { // what libtpms says
			if !bytes.Contains(san, []byte(part)) {
				t.Errorf("%#x: alternative name %q has no %q", index, san, part)
			}
		}
	}
}

// TestLocked tries as the guest what belongs to the platform.
func TestLocked(t *testing.T) {
	tpm := identitytest.Start(t, nil)
	p := boot(t, tpm)
	sent := tpm.Sent
	if err := p.Lock(); err != nil || tpm.Sent != sent {
		t.Errorf("Lock again: %v, %d commands", err, tpm.Sent-sent)
	}
	none := []byte(nil)
	define := appendSized(be.AppendUint16(nil, 0), binary.BigEndian.AppendUint16(
		[]byte{0x01, 0x40, 0, 2, 0, algSHA256, 0x42, 0x07, 0, 1, 0, 0}, 8))
	refused(t, tpm, rcBadAuth, call{code: ccNVDefineSpace, handles: []uint32{rhPlatform}, auth: &none, params: define})
	refused(t, tpm, rcBadAuth, call{code: ccHierarchyChangeAuth, handles: []uint32{rhPlatform}, auth: &none, params: []byte{0, 0}})
	const ccClear, ccChangeEPS = 0x126, 0x124
	refused(t, tpm, rcBadAuth, call{code: ccClear, handles: []uint32{rhPlatform}, auth: &none})
	refused(t, tpm, rcBadAuth, call{code: ccChangeEPS, handles: []uint32{rhPlatform}, auth: &none})
	for index := range indices {
		refused(t, tpm, rcNVAuthorization, call{code: ccNVUndefineSpace, handles: []uint32{rhOwner, index}, auth: &none})
	}
	write := be.AppendUint16(appendSized(nil, []byte("forged")), 0)
	refused(t, tpm, rcNVAuthorization, call{code: ccNVWrite, handles: []uint32{rhOwner, IndexReport}, auth: &none, params: write})
	refused(t, tpm, rcAuthUnavailable, call{code: ccNVWrite, handles: []uint32{IndexReport, IndexReport}, auth: &none, params: write})
	// The other hierarchies are the guest's, who has set nothing yet.
	for _, h := range []uint32{rhOwner, rhEndorsement, rhLockout} {
		setAuth(t, tpm, h, "guest")
	}
}

func TestReport(t *testing.T) {
	tpm := identitytest.Start(t, nil)
	p := boot(t, tpm)
	read := func() []byte {
		b, err := nvRead(tpm, IndexReport, p.ReportSize(), 1024)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r, err := claims.ParseHCLReport(read())
	if err != nil {
		t.Fatal(err)
	}
	said, err := claims.ParseRuntime(r.Runtime)
	if err != nil {
		t.Fatal(err)
	}
	ak, err := said.Key(claims.KeyAK)
	if err != nil || said.Configuration.Isolation != "none" || r.Type != claims.ReportNone || len(r.Hardware) != 0 {
		t.Errorf("report %+v, claims %+v, %v", r, said, err)
	}
	if want, ok := p.keys[HandleAK].(*rsa.PublicKey); !ok || !want.Equal(ak) {
		t.Error("the claims have another AK")
	}
	// The platform still writes after Lock, and leaves nothing of the old contents.
	next := claims.HCLReport{Type: claims.ReportSNP, Hardware: bytes.Repeat([]byte{7}, claims.HardwareReportSize), Runtime: []byte("{}")}
	report, err := next.Marshal(p.ReportSize())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetReport(report); err != nil {
		t.Fatal(err)
	}
	if b := read(); !bytes.Equal(b[:len(report)], report) || len(bytes.Trim(b[len(report):], "\x00")) != 0 {
		t.Error("the report reads otherwise than it was written")
	}
	if err := p.SetReport(make([]byte, p.ReportSize()+1)); err == nil {
		t.Error("a report that is too long was taken")
	}
}
