package paravisor

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"slices"

	"keel/diag/attest/claims"
	"keel/diag/owner"
	"keel/hcl"
	"keel/paravisor/config"
	"keel/paravisor/keyrelease"
	"keel/vtpm/identity"
)

// tpmKeys are what a claim says of a TPM.
type tpmKeys struct{ endorsement, attestation [32]byte }

// keysOf digests the keys that were made for the TPM. Those that the guest has taken into
// its own hands are left out.
func keysOf(p *identity.Platform) (k tpmKeys, err error) {
	digest := func(handles ...uint32) ([32]byte, error) {
		var keys []crypto.PublicKey
		for _, h := range handles {
			if key := p.Key(h); key != nil {
				keys = append(keys, key)
			}
		}
		return claims.DigestKeys(keys...)
	}
	if k.endorsement, err = digest(identity.HandleEKRSA, identity.HandleEKECC); err != nil {
		return k, err
	}
	k.attestation, err = digest(identity.HandleAK)
	return k, err
}

// report makes the report that the guest reads from its TPM: the TEE vouches for claims
// that name the TPM's attestation key. Without a TEE it is nil.
func (t *tpm) report() func(p *identity.Platform) ([]byte, error) {
	if t.tee == nil {
		return nil
	}
	return func(p *identity.Platform) ([]byte, error) {
		isolation := t.tee.Kind()
		if t.tee.Emulated() {
			isolation += ", emulated"
		}
		runtime, err := p.Claims(isolation)
		if err != nil {
			return nil, err
		}
		data, _ := claims.RuntimeData(claims.HashSHA256, runtime)
		r := claims.HCLReport{Type: claims.ReportSNP, Runtime: runtime}
		if t.tee.Kind() == claims.KindTDX {
			r.Type = claims.ReportTDX
		}
		if r.Hardware, err = t.tee.Report(data); err != nil {
			return nil, err
		}
		return r.Marshal(p.ReportSize())
	}
}

// attest answers a verifier's nonce with evidence of this VM. Any goroutine may call it.
func (k *keel) attest(_ context.Context, nonce []byte) ([]byte, error) {
	keys := k.tpmKeys()
	return vouch(k.tee, &claims.Claim{
		Nonce: slices.Clone(nonce), EK: keys.endorsement, AK: keys.attestation, Config: sha256.Sum256(k.config.Canonical()),
		Instance: keys.instance(),
	})
}

// tpmKeys returns the keys of the TPM; zeros for no TPM, or one that is not there yet.
func (k *keel) tpmKeys() (keys tpmKeys) {
	if t := k.machine.tpm; t != nil {
		if now := t.keys.Load(); now != nil {
			keys = *now
		}
	}
	return keys
}

// instance returns the identity of a VM: that of its TPM, whose seeds are in the sealed
// state. VMs without a TPM have the same one.
func (k tpmKeys) instance() owner.Instance {
	sum := sha256.Sum256(append([]byte("keel instance "), k.endorsement[:]...))
	return owner.Instance(sum[:])
}

// attestRelease answers a key server's nonce. There is no TPM yet; its place has what no
// other claim of Keel has.
func attestRelease(tee hcl.Attester, c *config.Config, nonce []byte) ([]byte, error) {
	return vouch(tee, &claims.Claim{Nonce: slices.Clone(nonce), Config: sha256.Sum256(c.Canonical()), Instance: keyrelease.Instance})
}

// vouch has the TEE vouch for a claim, and returns both as evidence.
func vouch(tee hcl.Attester, claim *claims.Claim) ([]byte, error) {
	b, err := claim.Marshal()
	if err != nil {
		return nil, err
	}
	e := claims.Evidence{Kind: tee.Kind(), Claim: b}
	if e.Report, e.Certificates, err = tee.Evidence(claims.ReportData(b)); err != nil {
		return nil, fmt.Errorf("evidence of %s: %w", tee.Kind(), err)
	}
	return e.Marshal()
}
