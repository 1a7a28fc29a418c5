package attest

import (
	"errors"

	"keel/diag/attest/claims"
)

// Reasons why evidence is refused. Each error of Verify is one of them, with one line that
// tells the cause and what to do.
var (
	// ErrTruncated reports evidence that ends too early.
	ErrTruncated = claims.ErrTruncated
	// ErrVersion reports a version or kind of evidence that this verifier does not know.
	ErrVersion = claims.ErrVersion
	// ErrFormat reports evidence that is whole and yet no report or quote.
	ErrFormat = claims.ErrFormat
	// ErrSize reports evidence that is larger than any can be.
	ErrSize = claims.ErrSize
	// ErrExpect reports expectations that cannot be: the verifier's own mistake.
	ErrExpect = errors.New("unusable expectation")
	// ErrChain reports certificates that do not lead to a trusted root.
	ErrChain = errors.New("untrusted certificates")
	// ErrEmulated reports emulated evidence where nobody allowed it.
	ErrEmulated = errors.New("emulated evidence")
	// ErrRevoked reports a certificate that its issuer revoked.
	ErrRevoked = errors.New("revoked certificate")
	// ErrCollateral reports collateral that is expired, unsigned or incomplete.
	ErrCollateral = errors.New("unusable collateral")
	// ErrSignature reports a signature that does not fit the report or quote.
	ErrSignature = errors.New("wrong signature")
	// ErrClaim reports a claim that the report data is not the hash of.
	ErrClaim = errors.New("claim is not vouched for")
	// ErrNonce reports evidence that answers another question, as an old one does.
	ErrNonce = errors.New("stale nonce")
	// ErrMeasurement reports another image than the one expected.
	ErrMeasurement = errors.New("measurement differs")
	// ErrDebug reports a VM that its host may look into.
	ErrDebug = errors.New("debug policy")
	// ErrPolicy reports another property of the VM or the platform that is not allowed.
	ErrPolicy = errors.New("policy not allowed")
	// ErrVMPL reports a report that was asked for above VMPL 0: by the guest, not by Keel.
	ErrVMPL = errors.New("wrong VMPL")
	// ErrTCB reports firmware that is older than demanded.
	ErrTCB = errors.New("TCB too old")
	// ErrOtherVM reports evidence of another VM.
	ErrOtherVM = errors.New("another VM")
	// ErrKeys reports other TPM keys than those expected.
	ErrKeys = errors.New("TPM keys differ")
	// ErrConfig reports another configuration than the one expected.
	ErrConfig = errors.New("configuration differs")
)
