package attest

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/google/go-tdx-guest/pcs"
	"github.com/google/go-tdx-guest/proto/tdx"
	"github.com/google/go-tdx-guest/verify"
)

// TDXCollateral is what Intel's provisioning service (PCS, version 4) answers about a
// platform, fetched by somebody else. All of it is signed; none of it is secret.
type TDXCollateral struct {
	TCBInfo      []byte // body of /tdx/certification/v4/tcb?fmspc=
	TCBInfoChain []byte // PEM: its header TCB-Info-Issuer-Chain
	QEIdentity   []byte // body of /tdx/certification/v4/qe/identity
	QEChain      []byte // PEM: its header SGX-Enclave-Identity-Issuer-Chain
	PCKCRL       []byte // body of /sgx/certification/v4/pckcrl?encoding=der
	PCKCRLChain  []byte // PEM: its header SGX-PCK-CRL-Issuer-Chain
	RootCRL      []byte // DER
}

// errElsewhere stops the library from reaching for the network.
var errElsewhere = errors.New("nothing is fetched")

// Get answers the library's requests from what was given.
func (c *TDXCollateral) Get(from string) (map[string][]string, []byte, error) {
	answer := func(body []byte, header string, chain []byte) (map[string][]string, []byte, error) {
		if len(body) == 0 {
			return nil, nil, fmt.Errorf("%w: %.128s is not among the collateral", errElsewhere, from)
		}
		return map[string][]string{header: {url.QueryEscape(string(chain))}}, body, nil
	}
	switch {
	case strings.HasPrefix(from, pcs.TdxBaseURL+"/tcb?"):
		return answer(c.TCBInfo, pcs.TcbInfoIssuerChainPhrase, c.TCBInfoChain)
	case from == pcs.QeIdentityURL():
		return answer(c.QEIdentity, pcs.SgxQeIdentityIssuerChainPhrase, c.QEChain)
	case strings.HasPrefix(from, pcs.SgxBaseURL+"/pckcrl?"):
		return answer(c.PCKCRL, pcs.SgxPckCrlIssuerChainPhrase, c.PCKCRLChain)
	default: // what the root's certificate names
		return answer(c.RootCRL, "", nil)
	}
}

// verifyCollateral has the library check the quote against collateral.
func (q *quote) verifyCollateral(quote4 *tdx.QuoteV4, c *TDXCollateral, options *verify.Options) error {
	leaf, ca, root := q.chain[0], q.chain[1], q.chain[2]
	now := options.Now.PckCertChain
	if err := revoked(c.RootCRL, root, now, ca); err != nil {
		return err
	}
	if err := revoked(c.PCKCRL, ca, now, leaf); err != nil {
		return err
	}
	options.GetCollateral, options.CheckRevocations, options.Getter = true, true, c
	err := verify.TdxQuote(quote4, options)
	if err == nil {
		return nil
	}
	// The library has no error of its own for a platform that is out of date, only these
	// words, which come after the signatures of the collateral held.
	platform, enclave, e := verify.SupportedTcbLevelsFromCollateral(quote4, options)
	if e == nil && strings.Contains(err.Error(), "failed TCB status check") {
		return fmt.Errorf("%w: the platform is %s, its quoting enclave %s; update the host", ErrTCB, platform.TcbStatus, enclave.TcbStatus)
	}
	return fmt.Errorf("%w: %w; fetch it again", ErrCollateral, err)
}
