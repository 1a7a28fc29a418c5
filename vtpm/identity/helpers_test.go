package identity

import (
	"bytes"
	"crypto/x509"
	"errors"
	"testing"

	"keel/vtpm/identity/identitytest"
)

func testCA(t *testing.T) *TestCA {
	t.Helper()
	ca, err := NewTestCA()
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// boot brings a TPM up and locks it.
func boot(t *testing.T, tpm *identitytest.TPM) *Platform {
	t.Helper()
	p, err := Open(tpm, Options{Issuer: testCA(t), Reset: tpm.Reset})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Lock(); err != nil {
		t.Fatal(err)
	}
	return p
}

// reboot is a reset of the machine in good order, and the boot that follows.
func reboot(t *testing.T, tpm *identitytest.TPM) *Platform {
	t.Helper()
	must(t, tpm, call{code: ccShutdown, params: []byte{0, startupClear}})
	if err := tpm.Reset(); err != nil {
		t.Fatal(err)
	}
	return boot(t, tpm)
}

// must sends a command that has to succeed.
func must(t *testing.T, tpm TPM, c call) *reply {
	t.Helper()
	_, r, err := run(Resend(tpm), c)
	if err != nil {
		t.Fatalf("command %#x: %v", c.code, err)
	}
	return r
}

// refused sends a command that has to fail with a response code, the number of a
// parameter, handle or session left aside.
func refused(t *testing.T, tpm TPM, want Code, c call) {
	t.Helper()
	_, _, err := run(Resend(tpm), c)
	got, ok := errors.AsType[Code](err)
	if ok && got&0x80 != 0 { // format one
		got &= 0xbf
	}
	if !ok || got != want {
		t.Errorf("command %#x: %v, want %v", c.code, err, want)
	}
}

// Response codes, without the number of the parameter, handle or session.
const (
	rcBadAuth         Code = 0xa2
	rcAuthUnavailable Code = 0x12f
	rcNVAuthorization Code = 0x149
)

var indices = map[uint32]certified{IndexEKRSA: ekRSA, IndexEKECC: ekECC, IndexAK: ak}

// identityOf returns what makes up the identity: certificates and public areas.
func identityOf(t *testing.T, tpm TPM) map[uint32][]byte {
	t.Helper()
	id := map[uint32][]byte{}
	for index, c := range indices {
		p, err := nvReadPublic(tpm, index)
		if err != nil || !p.isOurs(attributesCertificate) || !p.complete() {
			t.Fatalf("%s: certificate %+v, %v", c.name, p, err)
		}
		if id[index], err = nvRead(tpm, index, p.size, 1024); err != nil {
			t.Fatal(err)
		}
		if id[c.handle], err = readPublic(tpm, c.handle); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if id[HandleSRK], err = readPublic(tpm, HandleSRK); err != nil || id[HandleSRK] == nil {
		t.Fatalf("SRK: %v", err)
	}
	return id
}

func certificate(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// sameIdentity reports what differs.
func sameIdentity(t *testing.T, got, want map[uint32][]byte) {
	t.Helper()
	for h := range want {
		if !bytes.Equal(got[h], want[h]) {
			t.Errorf("%#x differs", h)
		}
	}
}

// setAuth sets the authorization value of a hierarchy.
func setAuth(t *testing.T, tpm TPM, hierarchy uint32, value string) {
	t.Helper()
	must(t, tpm, call{code: ccHierarchyChangeAuth, handles: []uint32{hierarchy}, auth: empty, params: appendSized(nil, []byte(value))})
}

// clearTPM is TPM2_Clear by whoever holds lockoutAuth.
func clearTPM(t *testing.T, tpm TPM) {
	t.Helper()
	const ccClear = 0x126
	must(t, tpm, call{code: ccClear, handles: []uint32{rhLockout}, auth: empty})
}

func evict(t *testing.T, tpm TPM, handle uint32) {
	t.Helper()
	if err := persist(tpm, handle, handle); err != nil {
		t.Fatal(err)
	}
}
