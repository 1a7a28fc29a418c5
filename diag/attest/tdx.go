package attest

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/pcs"
	"github.com/google/go-tdx-guest/proto/tdx"
	"github.com/google/go-tdx-guest/validate"
	"github.com/google/go-tdx-guest/verify"

	"keel/diag/attest/claims"
)

// Intel's TD quoting enclave: MRSIGNER and ISVPRODID, as in the QE identity that its
// provisioning service publishes. Without collateral nothing else says whose enclave it is.
var intelSigner, _ = hex.DecodeString("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")

const intelProduct = 2

// attributesTUD are the bits of a TD's ATTRIBUTES that open it to the host (TDX module ABI,
// "ATTRIBUTES": group TUD, of which DEBUG is the only one so far).
const attributesTUD = 0xff

// verifyTDX checks a TDX quote up to, and without, the claim.
func verifyTDX(e *claims.Evidence, x *Expect, o *Options, r *Result) error {
	q, err := parseQuote(e.Report)
	if err != nil {
		return err
	}
	parsed, err := abi.QuoteToProto(q.raw)
	if err != nil {
		return fmt.Errorf("%w: %w; fetch the evidence again", ErrFormat, err)
	}
	quote4, ok := parsed.(*tdx.QuoteV4)
	if !ok {
		return fmt.Errorf("%w: a quote of another form than version 4; use a verifier that knows it", ErrVersion)
	}
	if err := q.trust(o, r); err != nil {
		return err
	}
	if err := q.verify(quote4, o, r); err != nil {
		return err
	}
	if err := fillTDX(quote4.GetTdQuoteBody(), quote4.GetHeader(), x, r); err != nil {
		return err
	}
	// The rest is the library's: bits of XFAM and ATTRIBUTES that no TD has.
	options := &validate.Options{TdQuoteBodyOptions: validate.TdQuoteBodyOptions{MinimumTeeTcbSvn: x.MinTEESVN, MrConfigID: r.HostData}}
	if err := validate.TdxQuote(quote4, options); err != nil {
		return fmt.Errorf("%w: %w; have the TD's settings checked", ErrPolicy, err)
	}
	return nil
}

// trust checks the certificate chain.
func (q *quote) trust(o *Options, r *Result) error {
	known, err := roots()
	if err != nil {
		return err
	}
	leaf, ca, root := q.chain[0], q.chain[1], q.chain[2]
	switch {
	case bytes.Equal(root.Raw, known.emulatedPCK.Raw):
		r.Emulated = true
		if !o.AllowEmulated {
			return fmt.Errorf("%w: Keel's emulated TDX platform signed it, which proves nothing; ask a VM on TDX hardware, or allow emulated evidence", ErrEmulated)
		}
	case !bytes.Equal(root.Raw, known.intel.Raw):
		return fmt.Errorf("%w: the root %q is not Intel's; is the VM on Intel hardware?", ErrChain, root.Subject.String())
	}
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: r.At}
	options.Roots.AddCert(root)
	options.Intermediates.AddCert(ca)
	if _, err := leaf.Verify(options); err != nil {
		return fmt.Errorf("%w: PCK: %w; have the host renew its certificates", ErrChain, err)
	}
	return nil
}

// verify checks signatures, the quoting enclave, and the collateral if there is any.
func (q *quote) verify(quote4 *tdx.QuoteV4, o *Options, r *Result) error {
	if _, err := pcs.PckCertificateExtensions(q.chain[0]); err != nil {
		return fmt.Errorf("%w: PCK: %w; have the host renew its certificates", ErrChain, err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(q.chain[2])
	now := r.At
	options := &verify.Options{TrustedRoots: pool, Now: &verify.TimeSet{PckCertChain: now, TcbInfo: now, QeIdentity: now, PckCrl: now, RootCaCrl: now}}
	if err := verify.TdxQuote(quote4, options); err != nil {
		return fmt.Errorf("%w: %w; the quote was changed, or is not of this platform", ErrSignature, err)
	}
	if binary.LittleEndian.Uint64(q.enclave[enclaveFlags:])&enclaveDebug != 0 {
		return fmt.Errorf("%w: the quoting enclave runs in debug mode; have the host run a production enclave", ErrDebug)
	}
	if !r.Emulated {
		if signer := q.enclave[enclaveSigner:][:len(intelSigner)]; !bytes.Equal(signer, intelSigner) || binary.LittleEndian.Uint16(q.enclave[enclaveProduct:]) != intelProduct {
			return fmt.Errorf("%w: signer %x is not Intel's TD quoting enclave; have the host run it", ErrChain, signer)
		}
	}
	if o.TDX == nil {
		r.NotChecked = append(r.NotChecked, "Intel's collateral (TCB info, QE identity, revocation lists): give it to see an outdated platform or revoked certificates")
		return nil
	}
	return q.verifyCollateral(quote4, o.TDX, options)
}

// fillTDX takes over what the quote says and holds what only TDX has against what is
// expected.
func fillTDX(body *tdx.TDQuoteBody, header *tdx.Header, x *Expect, r *Result) error {
	r.Version = header.GetVersion()
	r.Measurement = body.GetMrTd()
	copy(r.ReportData[:], body.GetReportData())
	r.HostData = body.GetMrConfigId()
	r.Policy = binary.LittleEndian.Uint64(body.GetTdAttributes())
	r.Debug = r.Policy&attributesTUD != 0
	r.TEESVN, r.MRSEAM, r.RTMR = body.GetTeeTcbSvn(), body.GetMrSeam(), body.GetRtmrs()

	for i, least := range x.MinTEESVN {
		if r.TEESVN[i] < least {
			return fmt.Errorf("%w: TEE_TCB_SVN %x, wanted is at least %x; update the host's TDX module", ErrTCB, r.TEESVN, x.MinTEESVN)
		}
	}
	zero := make([]byte, digestSize)
	if !bytes.Equal(body.GetMrSignerSeam(), zero) || !bytes.Equal(body.GetSeamAttributes(), zero[:len(body.GetSeamAttributes())]) {
		return fmt.Errorf("%w: a TDX module of another signer, or with attributes; have the host load Intel's", ErrPolicy)
	}
	return nil
}
