// Package attest decides whether evidence of a confidential VM is good: a report of AMD's
// secure processor or a quote of an Intel TDX platform, and the claim of the paravisor that
// it vouches for. The vendors' formats and signatures are checked by go-sev-guest and
// go-tdx-guest; this package bounds what they are given, pins the roots, and checks what
// Keel adds.
//
// Nothing is fetched: certificates come with the evidence, the vendors' roots are embedded,
// and collateral (revocation lists, TCB information) is given by the caller or reported in
// Result.NotChecked as not looked at.
package attest

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"time"

	"keel/diag/attest/claims"
)

// Expect is what the verifier wants of a VM.
type Expect struct {
	// Nonce is the verifier's own, MinNonce to MaxNonce bytes, fresh for each evidence.
	Nonce []byte
	// Measurement is the SNP launch digest or the MRTD, 48 bytes.
	Measurement []byte
	// AnyMeasurement accepts any image; Measurement is nil then.
	AnyMeasurement bool
	// AllowDebug accepts a VM that its host may look into.
	AllowDebug bool
	// AllowMigration accepts an SNP guest that a migration agent may move.
	AllowMigration bool
	// MinTCB is the lowest SNP TCB_VERSION, compared byte by byte.
	MinTCB uint64
	// MinTEESVN is the lowest TEE_TCB_SVN of a TDX platform, 16 bytes, compared byte by byte.
	MinTEESVN []byte
	// HostData is SNP's HOST_DATA, 32 bytes, or TDX's MRCONFIGID, 48 bytes; nil: any.
	HostData []byte
	// Instance is the VM's own identity in the claim; nil: any.
	Instance *[16]byte
	// EK and AK are claims.DigestKeys of the TPM's endorsement and attestation keys; nil: any.
	EK, AK *[32]byte
	// Config is the SHA-256 of the measured configuration; nil: any.
	Config *[32]byte
	// IDKeyDigest is the SHA-384 of the key that signed the SNP ID block; nil: any.
	IDKeyDigest []byte
}

// Options say how to verify.
type Options struct {
	// AllowEmulated also accepts evidence of Keel's emulated TEE, whose keys are public. It
	// proves nothing.
	AllowEmulated bool
	// Now is when certificates and collateral must be valid; zero: the current time.
	Now time.Time
	// ARKRevocations is AMD's revocation list for the product line, DER; nil: not checked.
	ARKRevocations []byte
	// TDX is Intel's collateral; nil: not checked.
	TDX *TDXCollateral
}

// Verify checks evidence of a VM, from its format over certificates and signature to the
// claim, and returns what it says; nothing of evidence that is refused. The order is fixed:
// nothing is compared that is not signed.
func Verify(e *claims.Evidence, x *Expect, o *Options) (*Result, error) {
	if o == nil {
		o = &Options{}
	}
	now := o.Now
	if now.IsZero() {
		now = time.Now()
	}
	if err := x.check(e.Kind); err != nil {
		return nil, err
	}
	r := &Result{Kind: e.Kind, At: now}
	var err error
	switch e.Kind {
	case claims.KindSNP:
		err = verifySNP(e, x, o, r)
	case claims.KindTDX:
		err = verifyTDX(e, x, o, r)
	default:
		err = fmt.Errorf("%w: evidence of kind %.16q; use a verifier that knows it", ErrVersion, e.Kind)
	}
	if err == nil {
		err = x.compare(e, r)
	}
	switch {
	case err != nil && r.Emulated:
		return nil, fmt.Errorf(emulatedPrefix+"%w", err)
	case err != nil:
		return nil, err
	}
	return r, nil
}

const digestSize = 48

// check refuses expectations that no evidence can meet, and the one that anything meets.
func (x *Expect) check(kind string) error {
	hostData := 32
	if kind == claims.KindTDX {
		hostData = digestSize
	}
	switch {
	case len(x.Nonce) < claims.MinNonce || len(x.Nonce) > claims.MaxNonce:
		return fmt.Errorf("%w: a nonce of %d bytes; give %d to %d random ones", ErrExpect, len(x.Nonce), claims.MinNonce, claims.MaxNonce)
	case x.AnyMeasurement && x.Measurement != nil:
		return fmt.Errorf("%w: a measurement, and any measurement; give one of them", ErrExpect)
	case !x.AnyMeasurement && len(x.Measurement) != digestSize:
		return fmt.Errorf("%w: a measurement of %d bytes; give the %d that 'keel image measure' prints", ErrExpect, len(x.Measurement), digestSize)
	case x.HostData != nil && len(x.HostData) != hostData:
		return fmt.Errorf("%w: host data of %d bytes; %s has %d", ErrExpect, len(x.HostData), kind, hostData)
	case x.MinTEESVN != nil && len(x.MinTEESVN) != 16:
		return fmt.Errorf("%w: a TEE_TCB_SVN of %d bytes; it has 16", ErrExpect, len(x.MinTEESVN))
	case x.IDKeyDigest != nil && (len(x.IDKeyDigest) != digestSize || kind != claims.KindSNP):
		return fmt.Errorf("%w: an ID key's digest of %d bytes for %s; SNP has one of %d", ErrExpect, len(x.IDKeyDigest), kind, digestSize)
	}
	return nil
}

// compare holds the claim, and what both kinds have, against what is expected.
func (x *Expect) compare(e *claims.Evidence, r *Result) error {
	claim, err := claims.ParseClaim(e.Claim)
	if err != nil {
		return err
	}
	if claims.ReportData(e.Claim) != r.ReportData {
		return fmt.Errorf("%w: the report data is not the claim's SHA-512; fetch report and claim together", ErrClaim)
	}
	r.Claim = *claim
	switch {
	case subtle.ConstantTimeCompare(claim.Nonce, x.Nonce) != 1:
		return fmt.Errorf("%w: the evidence answers nonce %x; ask the VM again with the current nonce", ErrNonce, claim.Nonce)
	case !x.AnyMeasurement && !bytes.Equal(r.Measurement, x.Measurement):
		return fmt.Errorf("%w: the VM was launched with %x, wanted is %x; compare the images with 'keel image measure'", ErrMeasurement, r.Measurement, x.Measurement)
	case r.Debug && !x.AllowDebug:
		return fmt.Errorf("%w: the host may read the VM's memory; launch it without debug, or allow it", ErrDebug)
	case x.HostData != nil && !bytes.Equal(r.HostData, x.HostData):
		return fmt.Errorf("%w: host data are %x, wanted are %x; ask the right VM", ErrOtherVM, r.HostData, x.HostData)
	case x.Instance != nil && claim.Instance != *x.Instance:
		return fmt.Errorf("%w: instance %x, wanted is %x; ask the right VM", ErrOtherVM, claim.Instance, *x.Instance)
	case x.EK != nil && claim.EK != *x.EK:
		return fmt.Errorf("%w: endorsement keys with digest %x, wanted is %x; was the TPM's state replaced?", ErrKeys, claim.EK, *x.EK)
	case x.AK != nil && claim.AK != *x.AK:
		return fmt.Errorf("%w: attestation key with digest %x, wanted is %x; was the TPM's state replaced?", ErrKeys, claim.AK, *x.AK)
	case x.Config != nil && claim.Config != *x.Config:
		return fmt.Errorf("%w: digest %x, wanted is %x; compare the VM's configuration with the one you gave", ErrConfig, claim.Config, *x.Config)
	}
	x.note(r)
	return nil
}

// note lists what nobody asked for.
func (x *Expect) note(r *Result) {
	for _, n := range []struct {
		missing bool
		what    string
	}{
		{x.AnyMeasurement, "measurement: any image was accepted"},
		{x.HostData == nil && x.Instance == nil, "which VM it is: no host data or instance was expected"},
		{x.EK == nil || x.AK == nil, "TPM keys: compare the digests with the keys that the VM uses"},
		{x.Config == nil, "configuration"},
		{r.Kind == claims.KindSNP && x.MinTCB == 0 || r.Kind == claims.KindTDX && x.MinTEESVN == nil, "minimum TCB"},
	} {
		if n.missing {
			r.NotChecked = append(r.NotChecked, n.what)
		}
	}
}
