package tpm

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"testing"

	sevabi "github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/verify"

	"keel/boot"
	"keel/diag/attest/claims"
	"keel/hcl/abi/tdx"
	"keel/hcl/emutee/evidence"
)

// checkReport checks what the guest has read from NV index 0x01400001: the TEE vouches for
// the attestation key, and for the image that runs.
func checkReport(t *testing.T, m machine, s Said) {
	t.Helper()
	r, err := claims.ParseHCLReport(s.Files["report"])
	if err != nil {
		t.Error(err)
		return
	}
	var c claims.RuntimeClaims
	if err := json.Unmarshal(r.Runtime, &c); err != nil {
		t.Errorf("claims: %v in %q", err, r.Runtime)
		return
	}
	key, err := c.Key(claims.KeyAK)
	if err == nil {
		var der []byte
		if der, err = x509.MarshalPKIXPublicKey(key); err == nil && !bytes.Equal(der, s.Files["key-0x1c101d0"]) {
			t.Errorf("the claims' key is %x, the TPM's %x", der, s.Files["key-0x1c101d0"])
		}
	}
	if err != nil {
		t.Error(err)
	}
	if m.Isolation == "" {
		if r.Type != claims.ReportNone || c.Configuration.Isolation != "none" {
			t.Errorf("report of type %d, isolation %q", r.Type, c.Configuration.Isolation)
		}
		return
	}
	want := map[string]claims.ReportType{"snp": claims.ReportSNP, "tdx": claims.ReportTDX}[m.Isolation]
	if r.Type != want || !r.Bound() || c.Configuration.Isolation != m.Isolation+", emulated" {
		t.Errorf("report of type %d, bound %v, isolation %q", r.Type, r.Bound(), c.Configuration.Isolation)
	}
	if m.Isolation == "snp" {
		checkSNPReport(t, r.Hardware)
	} else {
		checkTDReport(t, r.Hardware)
	}
}

// checkTDReport checks that the emulated platform has made the report, of the image under
// test.
func checkTDReport(t *testing.T, b []byte) {
	t.Helper()
	platform, err := evidence.NewPlatform([]byte(evidence.Secret))
	if err != nil {
		t.Fatal(err)
	}
	if err := platform.VerifyReport(b); err != nil {
		t.Error(err)
		return
	}
	image, err := boot.Measure(tool.Image, []string{"tdx"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := b[tdx.REPORT_TDINFO+tdx.TDINFO_MRTD:][:len(image[0].Digest)]; !bytes.Equal(got, image[0].Digest[:]) {
		t.Errorf("measurement %x, the image's is %v", got, image[0].Digest)
	}
}

// checkSNPReport checks that the emulated AMD-SP has signed the report, for VMPL0 of the
// image under test.
func checkSNPReport(t *testing.T, b []byte) {
	t.Helper()
	chip, err := evidence.NewChip([]byte(evidence.Secret), evidence.DefaultTCB)
	if err != nil {
		t.Fatal(err)
	}
	table, err := chip.Certificates()
	if err != nil {
		t.Fatal(err)
	}
	a, err := sevabi.ReportCertsToProto(append(bytes.Clone(b), table...))
	if err != nil {
		t.Error(err)
		return
	}
	vcek, err := x509.ParseCertificate(a.GetCertificateChain().GetVcekCert())
	if err != nil {
		t.Fatal(err)
	}
	if err := verify.SnpReportSignature(b, vcek); err != nil {
		t.Error(err)
	}
	image, err := boot.Measure(tool.Image, []string{"snp"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := a.GetReport().GetMeasurement(), image[0].Digest[:]; !bytes.Equal(got, want) || a.GetReport().GetVmpl() != 0 {
		t.Errorf("measurement %x at VMPL %d, the image's is %x", got, a.GetReport().GetVmpl(), want)
	}
}
