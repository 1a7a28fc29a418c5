package identity

import (
	"errors"
	"fmt"

	"keel/diag/attest/claims"
)

// ErrReport reports a report that NV index IndexReport cannot hold.
var ErrReport = errors.New("report for the TPM")

// maxReport is the size in bytes of the report's index in Azure's virtual TPM. Where the
// engine's indices are smaller (libtpms: 2,048) the index has their size.
const maxReport = 2900

// ReportSize returns the size of NV index IndexReport in bytes.
func (p *Platform) ReportSize() int { return min(maxReport, p.indexMax) }

// SetReport replaces the contents of NV index IndexReport, before or after Lock.
func (p *Platform) SetReport(report []byte) error {
	size := p.ReportSize()
	if len(report) > size {
		return fmt.Errorf("%w: %d bytes do not fit in %d", ErrReport, len(report), size)
	}
	if err := refresh(p.tpm, p.auth, IndexReport, report, size, p.chunk); err != nil {
		return fmt.Errorf("%w: %w", ErrReport, err)
	}
	return nil
}

// firstReport makes sure that the index speaks of this boot.
func (p *Platform) firstReport(o *Options) error {
	report := o.Report
	if report == nil {
		report = noReport
	}
	b, err := report(p)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrReport, err)
	}
	return p.SetReport(b)
}

// noReport claims no isolation.
func noReport(p *Platform) ([]byte, error) {
	runtime, err := p.Claims("none")
	if err != nil {
		return nil, err
	}
	r := claims.HCLReport{Type: claims.ReportNone, Runtime: runtime}
	return r.Marshal(p.ReportSize())
}

// Claims returns the runtime claims as JSON: what isolates the machine ("none" until a TEE
// does) and, where Open has seen it, the attestation key. The EK is left out, as two RSA
// keys and a TEE's report do not fit in an index of libtpms.
func (p *Platform) Claims(isolation string) ([]byte, error) {
	c := claims.RuntimeClaims{Keys: []claims.Key{}, Configuration: claims.Configuration{Isolation: isolation, TPMEnabled: true}}
	if public := p.keys[HandleAK]; public != nil {
		key, err := claims.NewKey(claims.KeyAK, public)
		if err != nil {
			return nil, err
		}
		c.Keys = append(c.Keys, key)
	}
	return c.Marshal()
}
