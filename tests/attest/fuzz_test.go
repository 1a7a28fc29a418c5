package attest

import (
	"testing"

	"keel/diag/attest"
	"keel/diag/attest/claims"
)

// fuzzVerify hands Verify whatever a hostile VM sends. Good evidence has one spelling, so
// that nothing but the seed's own bytes may be taken.
func fuzzVerify(f *testing.F, seed *claims.Evidence, rest ...[]byte) {
	f.Helper()
	f.Add(seed.Report, seed.Certificates, seed.Claim)
	for _, b := range rest {
		f.Add(b, seed.Certificates, seed.Claim)
	}
	f.Add(seed.Report[:100], []byte{}, []byte{})
	x, o := expect(f, seed.Kind), emulated()
	f.Fuzz(func(t *testing.T, report, certificates, claim []byte) {
		e := &claims.Evidence{Kind: seed.Kind, Report: report, Certificates: certificates, Claim: claim}
		r, err := attest.Verify(e, x, o)
		if (err == nil) != (r != nil) {
			t.Fatal(r, err)
		}
		if err != nil {
			if err.Error() == "" {
				t.Fatal("no reason")
			}
			return
		}
		if !r.Emulated || string(claim) != string(seed.Claim) {
			t.Fatal("evidence that nobody made is taken")
		}
	})
}

func FuzzVerifySNP(f *testing.F) { fuzzVerify(f, snp(f), make([]byte, 0x4a0)) }

func FuzzVerifyTDX(f *testing.F) {
	q := quote(f)
	// A signature of few bytes, and one whose inner sizes are too large.
	short, wide := append([]byte{}, q.Report...), append([]byte{}, q.Report...)
	short[632], short[633] = 1, 0
	wide[770+384+64], wide[770+384+65] = 0xff, 0xff
	fuzzVerify(f, q, short, wide, append(append([]byte{}, q.Report...), make([]byte, 100)...))
}
