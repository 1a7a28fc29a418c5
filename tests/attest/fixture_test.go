// Package attest holds the emulated TEE's evidence against the verifier, and both against
// the vendors' libraries.
package attest

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"math/big"
	"os"
	"sync"
	"testing"
	"time"

	"keel/diag/attest"
	"keel/diag/attest/claims"
	"keel/hcl/emutee/evidence"

	abi "keel/hcl/abi/snp"
)

// now is when the tests verify.
var now = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

var (
	secret      = []byte("the machine of these tests")
	nonce       = []byte("a nonce of 32 bytes, for a test.")
	measurement = [48]byte{0: 0x4b, 47: 0x01}
	hostData    = [32]byte{0: 0x68, 31: 0x02}
	configID    = [48]byte{0: 0x63, 47: 0x03}
	config      = sha256.Sum256([]byte("configuration"))
	instance    = [16]byte{1, 2, 3}
)

// chip and platform are made once, as their certificates take long under emulation.
var (
	chip     = sync.OnceValues(func() (*evidence.Chip, error) { return evidence.NewChip(secret, evidence.DefaultTCB) })
	platform = sync.OnceValues(func() (*evidence.Platform, error) { return evidence.NewPlatform(secret) })
)

// must returns a value or ends the test.
func must[T any](tb testing.TB) func(v T, err error) T {
	tb.Helper()
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// rsaKey is some public key of 2,048 bits: nobody signs with it.
func rsaKey(low int64) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), 2047)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(low)), E: 65537}
}

func digest(tb testing.TB, key crypto.PublicKey) [32]byte {
	tb.Helper()
	return must[[32]byte](tb)(claims.DigestKeys(key))
}

// claim is what the VM of these tests says.
func claim(tb testing.TB) *claims.Claim {
	tb.Helper()
	return &claims.Claim{Nonce: nonce, EK: digest(tb, rsaKey(1)), AK: digest(tb, rsaKey(3)), Config: config, Instance: instance}
}

// guest and td are the VM as the two TEEs see it.
func guest() *evidence.SNPGuest {
	return &evidence.SNPGuest{
		Policy: abi.POLICY_RESERVED_ONE | abi.POLICY_SMT, Measurement: measurement, HostData: hostData,
		FamilyID: [16]byte{1}, ImageID: [16]byte{2}, GuestSVN: 7, ReportID: [32]byte{3}, IDKeyDigest: [48]byte{4}, AuthorKeyDigest: [48]byte{5}, AuthorKey: true,
	}
}

func td() *evidence.TD {
	return &evidence.TD{Attributes: 1 << 28, XFAM: 0xe7, MRTD: measurement, MRConfigID: configID, MROwner: [48]byte{6}, MROwnerConfig: [48]byte{7}, RTMR: [4][48]byte{{8}, {9}, {10}, {11}}}
}

// snp returns evidence; the arguments may change what it is made of.
func snp(tb testing.TB, change ...func(g *evidence.SNPGuest, r *evidence.SNPRequest, c *claims.Claim)) *claims.Evidence {
	tb.Helper()
	g, r, c := guest(), &evidence.SNPRequest{}, claim(tb)
	for _, f := range change {
		f(g, r, c)
	}
	return snpOf(tb, must[*evidence.Chip](tb)(chip()), g, r, c)
}

func snpOf(tb testing.TB, from *evidence.Chip, g *evidence.SNPGuest, r *evidence.SNPRequest, c *claims.Claim) *claims.Evidence {
	tb.Helper()
	e := &claims.Evidence{Kind: claims.KindSNP, Claim: must[[]byte](tb)(c.Marshal())}
	r.Data = claims.ReportData(e.Claim)
	e.Report = must[[]byte](tb)(from.Report(g, r))
	e.Certificates = must[[]byte](tb)(from.Certificates())
	return e
}

// quote returns TDX evidence.
func quote(tb testing.TB, change ...func(t *evidence.TD, c *claims.Claim)) *claims.Evidence {
	tb.Helper()
	t, c := td(), claim(tb)
	for _, f := range change {
		f(t, c)
	}
	e := &claims.Evidence{Kind: claims.KindTDX, Claim: must[[]byte](tb)(c.Marshal())}
	p := must[*evidence.Platform](tb)(platform())
	e.Report = must[[]byte](tb)(p.Quote(p.Report(t, claims.ReportData(e.Claim))))
	return e
}

// expect wants exactly the VM of these tests.
func expect(tb testing.TB, kind string) *attest.Expect {
	tb.Helper()
	c := claim(tb)
	x := &attest.Expect{
		Nonce: nonce, Measurement: measurement[:], HostData: hostData[:], Instance: &c.Instance, EK: &c.EK, AK: &c.AK, Config: &c.Config,
		MinTCB: uint64(evidence.DefaultTCB),
	}
	if kind == claims.KindTDX {
		x.HostData, x.MinTCB, x.MinTEESVN = configID[:], 0, []byte{5, 0, 2, 15: 0}
	}
	return x
}

func emulated() *attest.Options { return &attest.Options{AllowEmulated: true, Now: now} }

// testdata reads a PEM file's contents.
func testdata(tb testing.TB, name string) []byte {
	tb.Helper()
	text := must[[]byte](tb)(os.ReadFile("testdata/" + name))
	block, _ := pem.Decode(text)
	if block == nil {
		tb.Fatalf("%s holds no PEM block", name)
	}
	return block.Bytes
}

// collateral returns what Intel's service would say.
func collateral(tb testing.TB, svn int) *attest.TDXCollateral {
	tb.Helper()
	c := must[*evidence.TDXCollateral](tb)(evidence.Collateral(now.Add(-time.Hour), svn))
	return &attest.TDXCollateral{
		TCBInfo: c.TCBInfo, TCBInfoChain: c.SigningChain, QEIdentity: c.QEIdentity, QEChain: c.SigningChain,
		PCKCRL: c.PCKCRL, PCKCRLChain: c.PCKCRLIssuers, RootCRL: c.RootCRL,
	}
}
