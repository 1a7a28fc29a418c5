package attest

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"
)

// revoked looks for certificates in an issuer's revocation list, DER or PEM.
func revoked(list []byte, issuer *x509.Certificate, now time.Time, certs ...*x509.Certificate) error {
	if block, _ := pem.Decode(list); block != nil {
		list = block.Bytes
	}
	crl, err := x509.ParseRevocationList(list)
	if err != nil {
		return fmt.Errorf("%w: revocation list: %w; fetch it again", ErrCollateral, err)
	}
	if err := crl.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("%w: revocation list of %q: %w; fetch it again", ErrCollateral, issuer.Subject.CommonName, err)
	}
	if now.Before(crl.ThisUpdate) || now.After(crl.NextUpdate) {
		return fmt.Errorf("%w: the revocation list of %q is valid from %v to %v; fetch it again", ErrCollateral, issuer.Subject.CommonName, crl.ThisUpdate, crl.NextUpdate)
	}
	for _, c := range certs {
		if c == nil || string(c.RawIssuer) != string(issuer.RawSubject) {
			continue
		}
		for _, entry := range crl.RevokedCertificateEntries {
			if entry.SerialNumber.Cmp(c.SerialNumber) == 0 {
				return fmt.Errorf("%w: %q, since %v; do not trust this platform", ErrRevoked, c.Subject.CommonName, entry.RevocationTime)
			}
		}
	}
	return nil
}
