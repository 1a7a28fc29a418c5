package attest

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"keel/diag/attest"
	"keel/diag/attest/claims"
	"keel/hcl/emutee/evidence"

	abi "keel/hcl/abi/snp"
)

// TestGood takes the right evidence, over its way on the wire.
func TestGood(t *testing.T) {
	for _, test := range []struct {
		name    string
		e       *claims.Evidence
		version uint32
	}{
		{"snp 3", snp(t), 3},
		{"snp 2", snp(t, func(_ *evidence.SNPGuest, r *evidence.SNPRequest, _ *claims.Claim) { r.Version = 2 }), 2},
		{"snp, chip hidden", snp(t, func(_ *evidence.SNPGuest, r *evidence.SNPRequest, _ *claims.Claim) { r.HideChipID = true }), 3},
		{"tdx", quote(t), 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			wire := must[[]byte](t)(test.e.Marshal())
			e := must[*claims.Evidence](t)(claims.ParseEvidence(wire))
			r, err := attest.Verify(e, expect(t, e.Kind), emulated())
			if err != nil {
				t.Fatal(err)
			}
			if !r.Emulated || r.Debug || r.Version != test.version || !bytes.Equal(r.Measurement, measurement[:]) || r.Claim.Instance != instance {
				t.Errorf("result %+v", r)
			}
			if len(r.NotChecked) != 1 {
				t.Errorf("not checked: %q; wanted is the collateral alone", r.NotChecked)
			}
			for _, line := range r.Lines() {
				if !strings.HasPrefix(line, "EMULATED ") || strings.Contains(line, "\n") {
					t.Errorf("line %q", line)
				}
			}
		})
	}
}

// TestRefusals wants each reason for itself.
func TestRefusals(t *testing.T) {
	type snpChange = func(*evidence.SNPGuest, *evidence.SNPRequest, *claims.Claim)
	type tdChange = func(*evidence.TD, *claims.Claim)
	fromSNP := func(f snpChange) func(t *testing.T) *claims.Evidence {
		return func(t *testing.T) *claims.Evidence { t.Helper(); return snp(t, f) }
	}
	fromTD := func(f tdChange) func(t *testing.T) *claims.Evidence {
		return func(t *testing.T) *claims.Evidence { t.Helper(); return quote(t, f) }
	}
	goodSNP := func(t *testing.T) *claims.Evidence { t.Helper(); return snp(t) }
	goodTDX := func(t *testing.T) *claims.Evidence { t.Helper(); return quote(t) }
	spoil := func(good func(*testing.T) *claims.Evidence, f func(*claims.Evidence)) func(*testing.T) *claims.Evidence {
		return func(t *testing.T) *claims.Evidence {
			t.Helper()
			e := good(t)
			f(e)
			return e
		}
	}
	asIs := func(*attest.Expect, *attest.Options) {}
	for _, test := range []struct {
		name string
		e    func(*testing.T) *claims.Evidence
		want error
		how  func(*attest.Expect, *attest.Options)
	}{
		{"snp emulated", goodSNP, attest.ErrEmulated, func(_ *attest.Expect, o *attest.Options) { o.AllowEmulated = false }},
		{"tdx emulated", goodTDX, attest.ErrEmulated, func(_ *attest.Expect, o *attest.Options) { o.AllowEmulated = false }},
		{"snp truncated", spoil(goodSNP, func(e *claims.Evidence) { e.Report = e.Report[:1183] }), attest.ErrTruncated, asIs},
		{"snp empty", spoil(goodSNP, func(e *claims.Evidence) { e.Report = nil }), attest.ErrTruncated, asIs},
		{"snp too long", spoil(goodSNP, func(e *claims.Evidence) { e.Report = append(e.Report, 0) }), attest.ErrFormat, asIs},
		{"snp table truncated", spoil(goodSNP, func(e *claims.Evidence) { e.Certificates = e.Certificates[:len(e.Certificates)-1] }), attest.ErrTruncated, asIs},
		{"snp no table", spoil(goodSNP, func(e *claims.Evidence) { e.Certificates = make([]byte, 24) }), attest.ErrChain, asIs},
		{"tdx truncated", spoil(goodTDX, func(e *claims.Evidence) { e.Report = e.Report[:len(e.Report)-1] }), attest.ErrTruncated, asIs},
		{"claim truncated", spoil(goodSNP, func(e *claims.Evidence) { e.Claim = e.Claim[:100] }), attest.ErrTruncated, asIs},
		{"unknown kind", spoil(goodSNP, func(e *claims.Evidence) { e.Kind = "sgx" }), attest.ErrVersion, asIs},
		{"snp version", spoil(goodSNP, func(e *claims.Evidence) { e.Report[0] = 9 }), attest.ErrVersion, asIs},
		{"tdx version", spoil(goodTDX, func(e *claims.Evidence) { e.Report[0] = 5 }), attest.ErrVersion, asIs},
		{"claim version", spoil(goodSNP, func(e *claims.Evidence) { e.Claim[8] = 2 }), attest.ErrVersion, asIs},
		{"snp signature", spoil(goodSNP, func(e *claims.Evidence) { e.Report[0x2a0] ^= 1 }), attest.ErrSignature, asIs},
		{"tdx signature", spoil(goodTDX, func(e *claims.Evidence) { e.Report[700-60] ^= 1 }), attest.ErrSignature, asIs},
		{"snp another claim", spoil(goodSNP, func(e *claims.Evidence) { e.Claim[0xb0] ^= 1 }), attest.ErrClaim, asIs},
		{"tdx another claim", spoil(goodTDX, func(e *claims.Evidence) { e.Claim[0xb0] ^= 1 }), attest.ErrClaim, asIs},
		{"snp nonce", goodSNP, attest.ErrNonce, func(x *attest.Expect, _ *attest.Options) { x.Nonce = bytes.Repeat([]byte{1}, 32) }},
		{"tdx nonce, a prefix", goodTDX, attest.ErrNonce, func(x *attest.Expect, _ *attest.Options) { x.Nonce = nonce[:31] }},
		{"snp measurement", fromSNP(func(g *evidence.SNPGuest, _ *evidence.SNPRequest, _ *claims.Claim) { g.Measurement[3]++ }), attest.ErrMeasurement, asIs},
		{"tdx measurement", fromTD(func(d *evidence.TD, _ *claims.Claim) { d.MRTD[3]++ }), attest.ErrMeasurement, asIs},
		{"snp debug", fromSNP(func(g *evidence.SNPGuest, _ *evidence.SNPRequest, _ *claims.Claim) { g.Policy |= abi.POLICY_DEBUG }), attest.ErrDebug, asIs},
		{"tdx debug", fromTD(func(d *evidence.TD, _ *claims.Claim) { d.Attributes |= evidence.AttributeDebug }), attest.ErrDebug, asIs},
		{"snp migration", fromSNP(func(g *evidence.SNPGuest, _ *evidence.SNPRequest, _ *claims.Claim) {
			g.Policy |= abi.POLICY_MIGRATE_MA
		}), attest.ErrPolicy, asIs},
		{"snp ID key", goodSNP, attest.ErrPolicy, func(x *attest.Expect, _ *attest.Options) { x.IDKeyDigest = make([]byte, 48) }},
		{"tdx XFAM", fromTD(func(d *evidence.TD, _ *claims.Claim) { d.XFAM = 0 }), attest.ErrPolicy, asIs},
		{"snp VMPL 2", fromSNP(func(_ *evidence.SNPGuest, r *evidence.SNPRequest, _ *claims.Claim) { r.VMPL = 2 }), attest.ErrVMPL, asIs},
		{"snp EK", fromSNP(func(_ *evidence.SNPGuest, _ *evidence.SNPRequest, c *claims.Claim) { c.EK[0]++ }), attest.ErrKeys, asIs},
		{"tdx AK", fromTD(func(_ *evidence.TD, c *claims.Claim) { c.AK[31]++ }), attest.ErrKeys, asIs},
		{"configuration", fromTD(func(_ *evidence.TD, c *claims.Claim) { c.Config[1]++ }), attest.ErrConfig, asIs},
		{"snp microcode", goodSNP, attest.ErrTCB, func(x *attest.Expect, _ *attest.Options) { x.MinTCB += 1 << 56 }},
		{"snp boot loader, others higher", goodSNP, attest.ErrTCB, func(x *attest.Expect, _ *attest.Options) { x.MinTCB = 5 }},
		{"tdx SVN", goodTDX, attest.ErrTCB, func(x *attest.Expect, _ *attest.Options) { x.MinTEESVN[2]++ }},
		{"snp host data", fromSNP(func(g *evidence.SNPGuest, _ *evidence.SNPRequest, _ *claims.Claim) { g.HostData[9]++ }), attest.ErrOtherVM, asIs},
		{"tdx MRCONFIGID", fromTD(func(d *evidence.TD, _ *claims.Claim) { d.MRConfigID[9]++ }), attest.ErrOtherVM, asIs},
		{"instance", fromSNP(func(_ *evidence.SNPGuest, _ *evidence.SNPRequest, c *claims.Claim) { c.Instance[15]++ }), attest.ErrOtherVM, asIs},
		{"snp before its certificates", goodSNP, attest.ErrChain, func(_ *attest.Expect, o *attest.Options) { o.Now = now.AddDate(-20, 0, 0) }},
		{"tdx after its certificates", goodTDX, attest.ErrChain, func(_ *attest.Expect, o *attest.Options) { o.Now = now.AddDate(40, 0, 0) }},
		{"snp ASK revoked", goodSNP, attest.ErrRevoked, func(_ *attest.Expect, o *attest.Options) { o.ARKRevocations = testdata(t, "ark_revokes_ask.pem") }},
		{"snp list of another issuer", goodSNP, attest.ErrCollateral, func(_ *attest.Expect, o *attest.Options) { o.ARKRevocations = testdata(t, "pck_root_revokes_ca.pem") }},
		{"tdx CA revoked", goodTDX, attest.ErrRevoked, func(_ *attest.Expect, o *attest.Options) {
			o.TDX = collateral(t, -1)
			o.TDX.RootCRL = testdata(t, "pck_root_revokes_ca.pem")
		}},
		{"tdx out of date", goodTDX, attest.ErrTCB, func(_ *attest.Expect, o *attest.Options) { o.TDX = collateral(t, 6) }},
		{"tdx collateral expired", goodTDX, attest.ErrCollateral, func(_ *attest.Expect, o *attest.Options) {
			o.TDX, o.Now = collateral(t, -1), now.Add(40*24*time.Hour)
		}},
		{"tdx collateral changed", goodTDX, attest.ErrCollateral, func(_ *attest.Expect, o *attest.Options) {
			o.TDX = collateral(t, -1)
			o.TDX.TCBInfo = bytes.Replace(o.TDX.TCBInfo, []byte("UpToDate"), []byte("Revoked"), 1)
		}},
		{"tdx collateral incomplete", goodTDX, attest.ErrCollateral, func(_ *attest.Expect, o *attest.Options) {
			o.TDX = collateral(t, -1)
			o.TDX.QEIdentity = nil
		}},
		{"no nonce", goodSNP, attest.ErrExpect, func(x *attest.Expect, _ *attest.Options) { x.Nonce = nil }},
		{"no measurement", goodSNP, attest.ErrExpect, func(x *attest.Expect, _ *attest.Options) { x.Measurement = nil }},
		{"host data of another size", goodTDX, attest.ErrExpect, func(x *attest.Expect, _ *attest.Options) { x.HostData = make([]byte, 32) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := test.e(t)
			x, o := expect(t, e.Kind), emulated()
			test.how(x, o)
			r, err := attest.Verify(e, x, o)
			if !errors.Is(err, test.want) || r != nil {
				t.Fatalf("%v, %v; wanted is %v", r, err, test.want)
			}
			if text := err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, ";") && !strings.Contains(text, ". ") && !strings.Contains(text, "?") {
				t.Errorf("%q is not one line with cause and remedy", text)
			}
			for _, other := range sentinels {
				if !errors.Is(other, test.want) && errors.Is(err, other) {
					t.Errorf("%v is also %v", err, other)
				}
			}
		})
	}
}

var sentinels = []error{
	attest.ErrTruncated, attest.ErrVersion, attest.ErrFormat, attest.ErrSize, attest.ErrExpect, attest.ErrChain, attest.ErrEmulated, attest.ErrRevoked, attest.ErrCollateral,
	attest.ErrSignature, attest.ErrClaim, attest.ErrNonce, attest.ErrMeasurement, attest.ErrDebug, attest.ErrPolicy, attest.ErrVMPL, attest.ErrTCB, attest.ErrOtherVM, attest.ErrKeys, attest.ErrConfig,
}

// TestAllowed takes what the flags for it allow.
func TestAllowed(t *testing.T) {
	debug := snp(t, func(g *evidence.SNPGuest, _ *evidence.SNPRequest, _ *claims.Claim) {
		g.Policy |= abi.POLICY_DEBUG | abi.POLICY_MIGRATE_MA
	})
	x := &attest.Expect{Nonce: nonce, AnyMeasurement: true, AllowDebug: true, AllowMigration: true}
	r, err := attest.Verify(debug, x, emulated())
	if err != nil || !r.Debug {
		t.Fatal(r, err)
	}
	if len(r.NotChecked) != 6 {
		t.Errorf("not checked: %q", r.NotChecked)
	}
	tdx := quote(t, func(d *evidence.TD, _ *claims.Claim) { d.Attributes |= evidence.AttributeDebug })
	if r, err = attest.Verify(tdx, x, emulated()); err != nil || !r.Debug {
		t.Fatal(r, err)
	}
}

// TestCollateral leaves nothing unchecked.
func TestCollateral(t *testing.T) {
	o := emulated()
	o.ARKRevocations = must[[]byte](t)(evidence.ARKRevocations())
	o.TDX = collateral(t, 5)
	for _, e := range []*claims.Evidence{snp(t), quote(t)} {
		r, err := attest.Verify(e, expect(t, e.Kind), o)
		if err != nil {
			t.Fatal(e.Kind, err)
		}
		if len(r.NotChecked) != 0 {
			t.Errorf("%s: not checked: %q", e.Kind, r.NotChecked)
		}
	}
}

// TestFlippedByte changes every byte of report, quote and claim, and some of each
// certificate. The GUIDs of ASK and ARK are left out: an entry of another name is a host's
// own, and the verifier has these two certificates itself.
func TestFlippedByte(t *testing.T) {
	old := snp(t, func(_ *evidence.SNPGuest, r *evidence.SNPRequest, _ *claims.Claim) { r.Version = 2 })
	for _, test := range []struct {
		name               string
		e                  *claims.Evidence
		report, table, say int // steps
	}{{"snp 3", snp(t), 1, 41, 3}, {"snp 2", old, 5, 400, 50}, {"tdx", quote(t), 1, 1, 3}} {
		e, x, o := test.e, expect(t, test.e.Kind), emulated()
		if _, err := attest.Verify(e, x, o); err != nil {
			t.Fatal(err)
		}
		coarse := 1 // each try verifies certificates, which takes a while
		if testing.Short() {
			coarse = 17
		}
		flip := func(part string, b []byte, i int, mask byte) {
			b[i] ^= mask
			defer func() { b[i] ^= mask }()
			if _, err := attest.Verify(e, x, o); err == nil {
				t.Errorf("%s: %s with byte %#x changed by %#x is taken", test.name, part, i, mask)
			}
		}
		for i := 0; i < len(e.Report); i += test.report * coarse {
			flip("report", e.Report, i, 1<<(i%8))
		}
		for i := 0; i < len(e.Certificates); i += test.table * coarse {
			if i < 0x18 || i >= 0x48 {
				flip("certificates", e.Certificates, i, 1<<(i%8))
			}
		}
		for i := 0; i < len(e.Claim); i += test.say * coarse {
			flip("claim", e.Claim, i, 1<<(i%8))
		}
		if e.Kind == claims.KindTDX { // a line feed becomes a tab, which PEM decoders skip
			for i, c := range e.Report {
				if i > 1200 && c == '\n' {
					flip("chain", e.Report, i, '\n'^'\t')
				}
			}
		}
	}
	// What the library's own form of a report loses: the upper half of the stepping.
	e := snp(t)
	e.Report[0x18a] ^= 0x10
	if _, err := attest.Verify(e, expect(t, e.Kind), emulated()); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("a changed stepping: %v", err)
	}
}

// TestSwapped mixes parts of good evidence of two machines and two questions.
func TestSwapped(t *testing.T) {
	other := must[*evidence.Chip](t)(evidence.NewChip([]byte("another machine"), evidence.DefaultTCB))
	a, b := snp(t), snpOf(t, other, guest(), &evidence.SNPRequest{}, claim(t))
	b.Certificates = a.Certificates
	if _, err := attest.Verify(b, expect(t, b.Kind), emulated()); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("a report under another chip's certificate: %v", err)
	}
	later := claim(t)
	later.Nonce = bytes.Repeat([]byte{5}, 32)
	a.Claim = must[[]byte](t)(later.Marshal())
	x := expect(t, a.Kind)
	x.Nonce = later.Nonce
	if _, err := attest.Verify(a, x, emulated()); !errors.Is(err, attest.ErrClaim) {
		t.Errorf("an old report with a new claim: %v", err)
	}
}
