package keyserver

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"keel/diag/attest"
	"keel/diag/attest/claims"
	"keel/paravisor/keyrelease"
)

// find returns the rules of a VM.
func (p *Policy) find(vm string) (*rules, error) {
	r := p.vms[vm]
	if r == nil {
		return nil, &Refusal{vm, RuleVMs, errors.New("the policy does not list it; add it, or start the VM with its right --name")}
	}
	return r, nil
}

// reasons says which rule an error of attest.Verify is about; every other is RuleEvidence.
var reasons = []struct {
	err  error
	rule string
}{
	{attest.ErrNonce, RuleNonce},
	{attest.ErrOtherVM, RulePurpose},
	{attest.ErrKeys, RulePurpose},
	{attest.ErrEmulated, "allow_emulated"},
	{attest.ErrDebug, "allow_debug"},
	{attest.ErrTCB, "min_tcb"},
}

// judge verifies evidence of a VM. Its error is a *Refusal.
func (r *rules) judge(vm string, raw, nonce []byte, now time.Time) (*attest.Result, error) {
	e, err := claims.ParseEvidence(raw)
	if err != nil {
		return nil, &Refusal{vm, RuleEvidence, err}
	}
	// The list of measurements is looked at below: Verify knows one.
	x := &attest.Expect{
		Nonce: nonce, AnyMeasurement: true, AllowDebug: r.debug, Instance: &keyrelease.Instance, EK: new([32]byte), AK: new([32]byte),
	}
	switch e.Kind {
	case claims.KindSNP:
		x.MinTCB = r.minTCB
	case claims.KindTDX:
		x.MinTEESVN = r.minSVN
	}
	result, err := attest.Verify(e, x, &attest.Options{AllowEmulated: r.emulated, Now: now})
	if err != nil {
		rule := RuleEvidence
		for _, reason := range reasons {
			if errors.Is(err, reason.err) {
				rule = reason.rule
				break
			}
		}
		return nil, &Refusal{vm, rule, err}
	}
	if !slices.ContainsFunc(r.measurements[e.Kind], func(m []byte) bool { return bytes.Equal(m, result.Measurement) }) {
		return nil, &Refusal{vm, "measurements." + e.Kind, fmt.Errorf(
			"%w: the VM was launched with %x; add that if you trust the image ('keel image measure')", attest.ErrMeasurement, result.Measurement)}
	}
	if len(r.configurations) > 0 && !slices.Contains(r.configurations, result.Claim.Config) {
		return nil, &Refusal{vm, "configurations", fmt.Errorf(
			"%w: the VM has %x; add that if you trust it, or start the VM as before", attest.ErrConfig, result.Claim.Config)}
	}
	return result, nil
}
