package attest

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/validate"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"keel/diag/attest/claims"
)

// snpEvidence is a report on its way through the checks.
type snpEvidence struct {
	raw    []byte
	report *sevsnp.Report
	signer abi.ReportSigner
	certs  snpCertificates
	key    *x509.Certificate // VCEK or VLEK
	roots  map[string][]*trust.AMDRootCerts
}

// verifySNP checks an SNP report up to, and without, the claim.
func verifySNP(e *claims.Evidence, x *Expect, o *Options, r *Result) error {
	s, err := parseSNP(e)
	if err != nil {
		return err
	}
	known, err := roots()
	if err != nil {
		return err
	}
	// The ASK's signature tells an emulated VCEK from any other.
	r.Emulated = s.key.CheckSignatureFrom(known.emulatedASK) == nil
	if r.Emulated && !o.AllowEmulated {
		return fmt.Errorf("%w: Keel's emulated AMD-SP signed it, which proves nothing; ask a VM on SEV-SNP hardware, or allow emulated evidence", ErrEmulated)
	}
	s.roots = known.amdRoots(r.Emulated)
	if err := s.verify(o, r); err != nil {
		return err
	}
	s.fill(r)
	return s.check(x)
}

// parseSNP checks all that needs no key.
func parseSNP(e *claims.Evidence) (*snpEvidence, error) {
	b := e.Report
	switch {
	case len(b) < abi.ReportSize:
		return nil, fmt.Errorf("%w: a report of %d bytes; it has %d. Fetch the evidence again", ErrTruncated, len(b), abi.ReportSize)
	case len(b) > abi.ReportSize:
		return nil, fmt.Errorf("%w: a report of %d bytes; it has %d. Fetch the evidence again", ErrFormat, len(b), abi.ReportSize)
	}
	version := binary.LittleEndian.Uint32(b)
	if version < abi.MinSupportedReportVersion || version > abi.MaxSupportedReportVersion {
		return nil, fmt.Errorf("%w: an SNP report of version %d; use a verifier that knows it", ErrVersion, version)
	}
	s := &snpEvidence{raw: b}
	var err error
	if s.report, err = abi.ReportToProto(b); err != nil {
		return nil, fmt.Errorf("%w: %w; fetch the evidence again", ErrFormat, err)
	}
	info, err := abi.ParseSignerInfo(s.report.GetSignerInfo())
	if err != nil {
		return nil, fmt.Errorf("%w: %w; fetch the evidence again", ErrFormat, err)
	}
	if s.certs, err = parseTable(e.Certificates); err != nil {
		return nil, err
	}
	der := s.certs.vcek
	s.signer = info.SigningKey
	switch s.signer {
	case abi.VcekReportSigner:
	case abi.VlekReportSigner:
		der = s.certs.vlek
	default:
		return nil, fmt.Errorf("%w: signed by %v; have the host sign with VCEK or VLEK", ErrSignature, s.signer)
	}
	if der == nil {
		return nil, fmt.Errorf("%w: no %v certificate; load it into the host, or add it to the evidence", ErrChain, s.signer)
	}
	if s.key, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("%w: %v certificate: %w; fetch it again", ErrChain, s.signer, err)
	}
	return s, nil
}

// verify checks certificates and signature.
func (s *snpEvidence) verify(o *Options, r *Result) error {
	root, err := s.chain(r.At)
	if err != nil {
		return err
	}
	if err := revokedSNP(root, s.key, o.ARKRevocations, r); err != nil {
		return err
	}
	// The bytes as they came: what the library builds anew from its own form of a report
	// lacks the upper half of the stepping.
	if err := verify.SnpReportSignature(s.raw, s.key); err != nil {
		return fmt.Errorf("%w: %w; the report was changed, or is not of this chip", ErrSignature, err)
	}
	attestation := s.attestation()
	options := &verify.Options{DisableCertFetching: true, Now: r.At, TrustedRoots: s.roots}
	if err := verify.SnpAttestation(attestation, options); err != nil {
		return fmt.Errorf("%w: %w; update the host's certificates", ErrChain, err)
	}
	return nil
}

func (s *snpEvidence) attestation() *sevsnp.Attestation {
	return &sevsnp.Attestation{
		Report:           s.report,
		CertificateChain: &sevsnp.CertificateChain{VcekCert: s.certs.vcek, VlekCert: s.certs.vlek},
	}
}

// chain finds the root that the signer's certificate leads to.
func (s *snpEvidence) chain(now time.Time) (*trust.AMDRootCerts, error) {
	var last error
	for _, line := range s.roots {
		for _, root := range line {
			options := root.X509Options(now, s.signer)
			if options == nil {
				continue
			}
			if _, last = s.key.Verify(*options); last == nil {
				return root, s.sameChain(root)
			}
		}
	}
	if last == nil {
		return nil, fmt.Errorf("%w: no root for %v; use another signing key", ErrChain, s.signer)
	}
	return nil, fmt.Errorf("%w: %v: %w; is the VM on AMD hardware, and its host's certificate of this TCB?", ErrChain, s.signer, last)
}

// sameChain refuses certificates in the evidence that are not those that verified it.
func (s *snpEvidence) sameChain(root *trust.AMDRootCerts) error {
	intermediate := root.ProductCerts.Ask
	if s.signer == abi.VlekReportSigner {
		intermediate = root.ProductCerts.Asvk
	}
	for _, c := range []struct {
		given []byte
		want  *x509.Certificate
	}{{s.certs.intermediate, intermediate}, {s.certs.ark, root.ProductCerts.Ark}} {
		if c.given != nil && !bytes.Equal(c.given, c.want.Raw) {
			return fmt.Errorf("%w: the evidence carries another %q; update the host's certificates", ErrChain, c.want.Subject.CommonName)
		}
	}
	return nil
}

// revokedSNP looks for the certificates in the ARK's revocation list.
func revokedSNP(root *trust.AMDRootCerts, key *x509.Certificate, der []byte, r *Result) error {
	if der == nil {
		r.NotChecked = append(r.NotChecked, "AMD's revocation list: give it to see revoked certificates")
		return nil
	}
	return revoked(der, root.ProductCerts.Ark, r.At, root.ProductCerts.Ask, root.ProductCerts.Asvk, key)
}

// fill takes over what the report says.
func (s *snpEvidence) fill(r *Result) {
	r.Version = s.report.GetVersion()
	r.Measurement = s.report.GetMeasurement()
	copy(r.ReportData[:], s.report.GetReportData())
	r.HostData = s.report.GetHostData()
	r.TCB = s.report.GetReportedTcb()
	r.Policy = s.report.GetPolicy()
	r.ChipID = s.report.GetChipId()
	if p, err := abi.ParseSnpPolicy(r.Policy); err != nil || p.Debug {
		r.Debug = true
	}
}

// check holds what only SNP has against what is expected.
func (s *snpEvidence) check(x *Expect) error {
	if v := s.report.GetVmpl(); v != 0 {
		return fmt.Errorf("%w: the report is of VMPL %d; only Keel runs at VMPL 0, so ask Keel", ErrVMPL, v)
	}
	if err := s.checkTCB(x.MinTCB); err != nil {
		return err
	}
	policy, err := abi.ParseSnpPolicy(s.report.GetPolicy())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	if policy.MigrateMA && !x.AllowMigration {
		return fmt.Errorf("%w: a migration agent may move the VM; launch it without, or allow it", ErrPolicy)
	}
	if x.IDKeyDigest != nil && !bytes.Equal(x.IDKeyDigest, s.report.GetIdKeyDigest()) {
		return fmt.Errorf("%w: the ID block's key has digest %x, wanted is %x; launch with the right ID block", ErrPolicy, s.report.GetIdKeyDigest(), x.IDKeyDigest)
	}
	// The rest is the library's: chip and certificate, firmware versions. Debug is left to
	// compare, which has its own words for it.
	vmpl := 0
	options := &validate.Options{
		GuestPolicy: abi.SnpPolicy{SMT: true, Debug: true, MigrateMA: true}, VMPL: &vmpl,
		Measurement: s.report.GetMeasurement(), MinimumTCB: kds.DecomposeTCBVersion(kds.TCBVersion(x.MinTCB)),
	}
	if err := validate.SnpAttestation(s.attestation(), options); err != nil {
		return fmt.Errorf("%w: %w; have the host's firmware and settings checked", ErrPolicy, err)
	}
	return nil
}

// checkTCB compares what the signer's certificate and the report say with the minimum.
func (s *snpEvidence) checkTCB(least uint64) error {
	extensions, err := kds.CertificateExtensions(s.key, s.signer)
	if err != nil {
		return fmt.Errorf("%w: %v certificate: %w", ErrChain, s.signer, err)
	}
	reported := s.report.GetReportedTcb()
	if uint64(extensions.TCBVersion) != reported {
		return fmt.Errorf("%w: the report says %#x and its certificate %#x; update the host's certificate", ErrTCB, reported, uint64(extensions.TCBVersion))
	}
	for shift := 0; shift < 64; shift += 8 {
		if uint8(reported>>shift) < uint8(least>>shift) {
			return fmt.Errorf("%w: %#x, wanted is at least %#x; update the host's firmware", ErrTCB, reported, least)
		}
	}
	return nil
}
