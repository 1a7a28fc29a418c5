package evidence

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// tcbSigning signs TCB information and the quoting enclave's identity.
var tcbSigning = load("tcb_signing.pem", "tcb_signing_key.pem")

// ARKRevocations is the emulated ARK's revocation list, DER: it revokes nothing.
func ARKRevocations() ([]byte, error) {
	der, _, err := file("ark_crl.pem")
	return der, err
}

// TDXCollateral is what Intel's provisioning service would answer for an emulated platform.
type TDXCollateral struct {
	TCBInfo       []byte // JSON, signed
	QEIdentity    []byte // JSON, signed
	SigningChain  []byte // PEM: signer of both, root
	RootCRL       []byte // DER
	PCKCRL        []byte // DER
	PCKCRLIssuers []byte // PEM: PCK CA, root
}

// Collateral returns collateral that is valid from issued on for 30 days, and that finds
// the emulated platform up to date. A higher SVN raises what it asks of the TDX module's
// first TEE_TCB_SVN component, so that tests can make a platform out of date.
func Collateral(issued time.Time, svn int) (*TDXCollateral, error) {
	c := &TDXCollateral{}
	var err error
	var signer, root, ca []byte
	for _, f := range []struct {
		name      string
		der, text *[]byte
	}{
		{"pck_root_crl.pem", &c.RootCRL, nil},
		{"pck_ca_crl.pem", &c.PCKCRL, nil},
		{"tcb_signing.pem", nil, &signer},
		{"pck_root.pem", nil, &root},
		{"pck_ca.pem", nil, &ca},
	} {
		der, text, err := file(f.name)
		if err != nil {
			return nil, err
		}
		if f.der != nil {
			*f.der = der
		} else {
			*f.text = text
		}
	}
	c.SigningChain = append(append([]byte{}, signer...), root...)
	c.PCKCRLIssuers = append(append([]byte{}, ca...), root...)

	from, to := issued.UTC().Format(time.RFC3339), issued.UTC().Add(30*24*time.Hour).Format(time.RFC3339)
	if c.TCBInfo, err = signJSON("tcbInfo", map[string]any{
		"id": "TDX", "version": 3, "issueDate": from, "nextUpdate": to,
		"fmspc": hex.EncodeToString([]byte(fmspc)), "pceId": hex.EncodeToString([]byte(pceID)),
		"tcbType": 0, "tcbEvaluationDataNumber": 1,
		"tdxModule": map[string]any{"mrsigner": hex.EncodeToString(make([]byte, 48)), "attributes": "0000000000000000", "attributesMask": "ffffffffffffffff"},
		"tcbLevels": []any{
			level(map[string]any{"sgxtcbcomponents": components(svnCPU, -1), "pcesvn": svnPCE, "tdxtcbcomponents": components(svnTEE, svn)}, "UpToDate"),
			level(map[string]any{"sgxtcbcomponents": components(svnCPU, 0), "pcesvn": 0, "tdxtcbcomponents": components(svnTEE, 0)}, "OutOfDate"),
		},
	}); err != nil {
		return nil, err
	}
	mrsigner := enclaveSigner()
	c.QEIdentity, err = signJSON("enclaveIdentity", map[string]any{
		"id": "TD_QE", "version": 2, "issueDate": from, "nextUpdate": to, "tcbEvaluationDataNumber": 1,
		"miscselect": "00000000", "miscselectMask": "ffffffff",
		"attributes": "05000000000000000300000000000000", "attributesMask": "ffffffffffffffffffffffffffffffff",
		"mrsigner": hex.EncodeToString(mrsigner[:]), "isvprodid": productTDQE,
		"tcbLevels": []any{level(map[string]any{"isvsvn": svnTDQE}, "UpToDate")},
	})
	return c, err
}

func level(tcb map[string]any, status string) map[string]any {
	return map[string]any{"tcb": tcb, "tcbDate": "2024-01-01T00:00:00Z", "tcbStatus": status}
}

// components lists sixteen SVNs; first, if not negative, replaces the first one.
func components(svns string, first int) []map[string]int {
	all := make([]map[string]int, len(svns))
	for i := range svns {
		all[i] = map[string]int{"svn": int(svns[i])}
	}
	if first >= 0 {
		all[0]["svn"] = first
	}
	return all
}

// signJSON wraps a body as Intel's service does: the body under its name, and a signature
// over the body's bytes as they stand.
func signJSON(name string, body any) ([]byte, error) {
	signer, err := tcbSigning()
	if err != nil {
		return nil, err
	}
	key, ok := signer.key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: the TCB signer's key is no ECDSA key", ErrKeys)
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	r, s, err := sign(key, crypto.SHA256, raw)
	if err != nil {
		return nil, err
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return fmt.Appendf(nil, `{"%s":%s,"signature":"%x"}`, name, raw, signature), nil
}
