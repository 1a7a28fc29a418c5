package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"keel/boot/handoff"
	"keel/boot/measure"
	"keel/boot/qemu"
	"keel/diag/attest"
	"keel/diag/attest/claims"
	"keel/hcl/abi/snp"
	"keel/hcl/emutee/evidence"
)

// emulatedEvidence is what a VM of the emulated TEE answers to a nonce.
func emulatedEvidence(t *testing.T, nonce []byte, policy uint64, measurement measure.Digest) []byte {
	t.Helper()
	chip, err := evidence.NewChip([]byte(evidence.Secret), evidence.DefaultTCB)
	if err != nil {
		t.Fatal(err)
	}
	claim := claims.Claim{Nonce: nonce}
	b, err := claim.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	a := evidence.NewSNPAttester(chip, evidence.SNPGuest{Policy: snp.POLICY_RESERVED_ONE | snp.POLICY_SMT | policy, ReportID: [32]byte{1}, Measurement: measurement})
	e := claims.Evidence{Kind: a.Kind(), Claim: b}
	if e.Report, e.Certificates, err = a.Evidence(claims.ReportData(b)); err != nil {
		t.Fatal(err)
	}
	raw, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestAttest(t *testing.T) {
	nonce := bytes.Repeat([]byte{7}, 32)
	good, debug := emulatedEvidence(t, nonce, 0, measure.Digest{}), emulatedEvidence(t, nonce, snp.POLICY_DEBUG, measure.Digest{})
	digits := hex.EncodeToString(nonce)
	saved := file(t, "evidence", string(good))
	absent := filepath.Join(t.TempDir(), "absent")
	for name, tt := range map[string]struct {
		flags   attestFlags
		args    []string
		answer  []byte
		outcome handoff.Outcome // of a refusal
		reason  error
	}{
		"good":                {flags: attestFlags{nonce: digits, anyImage: true, allowEmulated: true}, args: []string{"vm"}, answer: good},
		"saved":               {flags: attestFlags{evidence: saved, nonce: digits, anyImage: true, allowEmulated: true}},
		"emulated":            {flags: attestFlags{nonce: digits, anyImage: true}, args: []string{"vm"}, answer: good, outcome: handoff.OutcomeBadEvidence, reason: attest.ErrEmulated},
		"another nonce":       {flags: attestFlags{anyImage: true, allowEmulated: true}, args: []string{"vm"}, answer: good, outcome: handoff.OutcomeBadEvidence, reason: attest.ErrNonce},
		"debug":               {flags: attestFlags{nonce: digits, anyImage: true, allowEmulated: true}, args: []string{"vm"}, answer: debug, outcome: handoff.OutcomeBadEvidence, reason: attest.ErrDebug},
		"debug, allowed":      {flags: attestFlags{nonce: digits, anyImage: true, allowEmulated: true, allowDbg: true}, args: []string{"vm"}, answer: debug},
		"truncated":           {flags: attestFlags{nonce: digits, anyImage: true, allowEmulated: true}, args: []string{"vm"}, answer: good[:len(good)/2], outcome: handoff.OutcomeBadEvidence},
		"nothing":             {flags: attestFlags{anyImage: true}, outcome: handoff.OutcomeUsage},
		"VM and file":         {flags: attestFlags{evidence: saved, nonce: digits}, args: []string{"vm"}, outcome: handoff.OutcomeUsage},
		"file without nonce":  {flags: attestFlags{evidence: saved}, outcome: handoff.OutcomeUsage},
		"short nonce":         {flags: attestFlags{nonce: "00"}, args: []string{"vm"}, outcome: handoff.OutcomeUsage},
		"no file":             {flags: attestFlags{evidence: absent, nonce: digits}, outcome: handoff.OutcomeBadEvidence},
		"image that is not":   {flags: attestFlags{nonce: digits, image: absent, allowEmulated: true}, args: []string{"vm"}, answer: good, outcome: handoff.OutcomeBadImage},
		"out not to be wrote": {flags: attestFlags{nonce: digits, out: filepath.Join(absent, "x")}, args: []string{"vm"}, answer: good, outcome: handoff.OutcomeUsage},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := tt.flags.run(context.Background(), &out, func(context.Context, string, []byte) ([]byte, error) { return tt.answer, nil }, tt.args)
			if tt.outcome == "" {
				if err != nil {
					t.Fatal(err)
				}
				for line := range strings.Lines(out.String()) {
					if !strings.HasPrefix(line, "EMULATED") {
						t.Errorf("a line does not say that it is emulated: %q", line)
					}
				}
				return
			}
			if err == nil || qemu.OutcomeOf(err) != tt.outcome || tt.reason != nil && !errors.Is(err, tt.reason) {
				t.Errorf("%v, want %s, %v", err, tt.outcome, tt.reason)
			}
			if out.Len() > 0 {
				t.Errorf("refused evidence printed %q", out.String())
			}
		})
	}
}

// TestAttestReference: evidence of another image names the parts that differ, when that
// image is at hand.
func TestAttestReference(t *testing.T) {
	wanted, started := testImage(t, new(uint64(snpWord)), nil), testImage(t, new(uint64(snpWord|1<<18)), nil)
	other := testImage(t, new(uint64(snpWord)), new(uint64(tdxWord)))
	nonce := bytes.Repeat([]byte{7}, 32)
	answer := emulatedEvidence(t, nonce, 0, measured(t, started, "snp").Digest)
	for reference, says := range map[string]string{started: "info at 0x100000: contents differ", other: "either", "": "keel image measure"} {
		f := attestFlags{nonce: hex.EncodeToString(nonce), image: wanted, reference: reference, allowEmulated: true}
		err := f.run(t.Context(), io.Discard, func(context.Context, string, []byte) ([]byte, error) { return answer, nil }, []string{"vm"})
		if qemu.OutcomeOf(err) != handoff.OutcomeBadEvidence || !errors.Is(err, attest.ErrMeasurement) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", reference, err, says)
		}
	}
}
