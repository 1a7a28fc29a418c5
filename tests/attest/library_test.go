package attest

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"

	sevabi "github.com/google/go-sev-guest/abi"
	sevvalidate "github.com/google/go-sev-guest/validate"
	sevverify "github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"
	tdxabi "github.com/google/go-tdx-guest/abi"
	tdxvalidate "github.com/google/go-tdx-guest/validate"
	tdxverify "github.com/google/go-tdx-guest/verify"

	"keel/diag/attest/claims"
	"keel/hcl/emutee/evidence"
)

const (
	evidenceKeys  = "../../hcl/emutee/evidence/keys/"
	verifierRoots = "../../diag/attest/roots/"
)

// TestSameRoots wants the verifier's copies to be the signer's certificates.
func TestSameRoots(t *testing.T) {
	for mine, theirs := range map[string]string{"ark.pem": "emulated_ark.pem", "ask.pem": "emulated_ask.pem", "pck_root.pem": "emulated_pck_root.pem"} {
		a, b := must[[]byte](t)(os.ReadFile(evidenceKeys+mine)), must[[]byte](t)(os.ReadFile(verifierRoots+theirs))
		if !bytes.Equal(a, b) {
			t.Errorf("%s and %s differ: run 'go run generate.go' in hcl/emutee/evidence", mine, theirs)
		}
	}
}

func rootCertificate(tb testing.TB, name string) *x509.Certificate {
	tb.Helper()
	block, _ := pem.Decode(must[[]byte](tb)(os.ReadFile(verifierRoots + name)))
	if block == nil {
		tb.Fatal(name)
	}
	return must[*x509.Certificate](tb)(x509.ParseCertificate(block.Bytes))
}

// at sets the time of a verification.
func at(o *tdxverify.Options) *tdxverify.Options {
	o.Now = &tdxverify.TimeSet{PckCertChain: now, TcbInfo: now, QeIdentity: now, PckCrl: now, RootCaCrl: now}
	return o
}

// TestLibrarySEV gives go-sev-guest the report as a host would.
func TestLibrarySEV(t *testing.T) {
	for _, version := range []uint32{2, 3} {
		e := snp(t, func(_ *evidence.SNPGuest, r *evidence.SNPRequest, _ *claims.Claim) { r.Version = version })
		a, err := sevabi.ReportCertsToProto(append(bytes.Clone(e.Report), e.Certificates...))
		if err != nil {
			t.Fatal(err)
		}
		back := must[[]byte](t)(sevabi.ReportToAbiBytes(a.Report))
		if !bytes.Equal(back, e.Report) {
			t.Error("the library builds another report from the same fields")
		}
		root := trust.AMDRootCertsProduct("Milan")
		root.ProductCerts = &trust.ProductCerts{Ark: rootCertificate(t, "emulated_ark.pem"), Ask: rootCertificate(t, "emulated_ask.pem")}
		ours := map[string][]*trust.AMDRootCerts{"Milan": {root}}
		if err := sevverify.SnpAttestation(a, &sevverify.Options{DisableCertFetching: true, Now: now, TrustedRoots: ours}); err != nil {
			t.Errorf("version %d: %v", version, err)
		}
		vmpl := 0
		g := guest()
		if err := sevvalidate.SnpAttestation(a, &sevvalidate.Options{
			GuestPolicy: sevabi.SnpPolicy{SMT: true}, VMPL: &vmpl, Measurement: g.Measurement[:], HostData: g.HostData[:], FamilyID: g.FamilyID[:], ImageID: g.ImageID[:],
			ReportID: g.ReportID[:], RequireAuthorKey: true, TrustedAuthorKeyHashes: [][]byte{g.AuthorKeyDigest[:]}, MinimumGuestSvn: g.GuestSVN,
		}); err != nil {
			t.Errorf("version %d: %v", version, err)
		}

		// The vendor's roots, by name and by the library's own choice.
		vendor := map[string][]*trust.AMDRootCerts{"Milan": {trust.DefaultRootCerts["Milan"]}}
		for _, roots := range []map[string][]*trust.AMDRootCerts{vendor, nil} {
			if err := sevverify.SnpAttestation(a, &sevverify.Options{DisableCertFetching: true, Now: now, TrustedRoots: roots}); err == nil {
				t.Errorf("version %d: verified with AMD's roots", version)
			}
		}
	}
}

// TestLibraryTDX gives go-tdx-guest the quote as a host would.
func TestLibraryTDX(t *testing.T) {
	e := quote(t)
	q, err := tdxabi.QuoteToProto(e.Report)
	if err != nil {
		t.Fatal(err)
	}
	back := must[[]byte](t)(tdxabi.QuoteToAbiBytes(q))
	if !bytes.Equal(back, e.Report) {
		t.Error("the library builds another quote from the same fields")
	}
	ours := x509.NewCertPool()
	ours.AddCert(rootCertificate(t, "emulated_pck_root.pem"))
	if err := tdxverify.TdxQuote(q, at(&tdxverify.Options{TrustedRoots: ours})); err != nil {
		t.Error(err)
	}
	if err := tdxverify.TdxQuote(q, at(&tdxverify.Options{TrustedRoots: ours, GetCollateral: true, CheckRevocations: true, Getter: collateral(t, -1)})); err != nil {
		t.Error(err)
	}
	d := td()
	if err := tdxvalidate.TdxQuote(q, &tdxvalidate.Options{TdQuoteBodyOptions: tdxvalidate.TdQuoteBodyOptions{
		MrTd: d.MRTD[:], MrConfigID: d.MRConfigID[:], MrOwner: d.MROwner[:], MrOwnerConfig: d.MROwnerConfig[:],
		Rtmrs: [][]byte{d.RTMR[0][:], d.RTMR[1][:], d.RTMR[2][:], d.RTMR[3][:]},
	}}); err != nil {
		t.Error(err)
	}
	if err := tdxverify.TdxQuote(q, at(&tdxverify.Options{})); err == nil {
		t.Error("verified with Intel's root")
	}
}

// TestRuntimeClaims binds runtime claims for Azure's clients to both kinds of report.
func TestRuntimeClaims(t *testing.T) {
	ak, err := claims.NewKey(claims.KeyAK, rsaKey(3))
	if err != nil {
		t.Fatal(err)
	}
	runtime := must[[]byte](t)((&claims.RuntimeClaims{Keys: []claims.Key{ak}, Configuration: claims.Configuration{TPMEnabled: true, UniqueID: "x", Isolation: "snp"}}).Marshal())
	data, _ := claims.RuntimeData(claims.HashSHA256, runtime)
	c, p := must[*evidence.Chip](t)(chip()), must[*evidence.Platform](t)(platform())
	for kind, hardware := range map[claims.ReportType][]byte{
		claims.ReportSNP: must[[]byte](t)(c.Report(guest(), &evidence.SNPRequest{Data: data})),
		claims.ReportTDX: p.Report(td(), data),
	} {
		index := must[[]byte](t)((&claims.HCLReport{Type: kind, Hardware: hardware, Runtime: runtime}).Marshal(2048))
		r, err := claims.ParseHCLReport(append(index, bytes.Repeat([]byte{0xff}, 2048-len(index))...))
		if err != nil || !r.Bound() {
			t.Errorf("type %d: %v", kind, err)
			continue
		}
		if got := must[*claims.RuntimeClaims](t)(claims.ParseRuntime(r.Runtime)); !strings.Contains(string(r.Runtime), `"vm-configuration"`) || len(got.Keys) != 1 {
			t.Errorf("%s", r.Runtime)
		}
	}
}
