package identity

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
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
		claims, err := p.Claims("none")
		if err != nil {
			return err
		}
		if report, err = MarshalReport(ReportNone, nil, claims); err != nil {
			return err
		}
	}
	return p.SetReport(report)
}

// ReportType says who signed a report (OpenHCL's IGVM_ATTEST report types).
type ReportType uint32

// Report types.
const (
	ReportNone ReportType = 0 // nobody: there is no TEE report
	ReportSNP  ReportType = 2
	ReportTDX  ReportType = 4
)

// Layout of the report: a header, the TEE's report in a field of fixed size, a second
// header, and JSON claims, whose SHA-256 the TEE's report has among its data (OpenHCL,
// openhcl_attestation_protocol).
const (
	reportSignature = "HCLA"
	reportVersion   = 2
	reportHeader    = 32 // signature, u32 version, u32 size, u32 request, u32 status, 12 reserved
	reportTEE       = 1184
	claimsHeader    = 20 // u32 size, u32 version, u32 report type, u32 hash type, u32 claims size
	requestAK       = 2
	claimsVersion   = 1
	hashSHA256      = 1
)

// MarshalReport returns the contents of NV index IndexReport: the TEE's report, of at
// most 1,184 bytes, and the claims that it vouches for. Its errors are ErrReport.
func MarshalReport(kind ReportType, tee, claims []byte) ([]byte, error) {
	if len(tee) > reportTEE || (kind == ReportNone) != (len(tee) == 0) {
		return nil, fmt.Errorf("%w: a TEE report of %d bytes for type %d", ErrReport, len(tee), kind)
	}
	le := binary.LittleEndian
	b := make([]byte, reportHeader+reportTEE, reportHeader+reportTEE+claimsHeader+len(claims))
	copy(b, reportSignature)
	le.PutUint32(b[4:], reportVersion)
	le.PutUint32(b[8:], uint32(len(tee)))
	le.PutUint32(b[12:], requestAK)
	copy(b[reportHeader:], tee)
	for _, v := range []uint32{uint32(claimsHeader + len(claims)), claimsVersion, uint32(kind), hashSHA256, uint32(len(claims))} {
		b = le.AppendUint32(b, v)
	}
	return append(b, claims...), nil
}

// jsonWebKey is an RSA key (RFC 7517) as OpenHCL names it in its claims.
type jsonWebKey struct {
	ID         string   `json:"kid"`
	Operations []string `json:"key_ops"`
	Type       string   `json:"kty"`
	Exponent   string   `json:"e"`
	Modulus    string   `json:"n"`
}

// Claims returns the runtime claims: what isolates the machine ("none" until a TEE does)
// and, where Open has seen it, the attestation key. The EK is left out, as two RSA keys
// and a TEE's report do not fit in an index of libtpms.
func (p *Platform) Claims(isolation string) ([]byte, error) {
	claims := struct {
		Keys          []jsonWebKey `json:"keys"`
		Configuration struct {
			Isolation  string `json:"isolation"`
			SecureBoot bool   `json:"secure-boot"`
			TPM        bool   `json:"tpm-enabled"`
		} `json:"vm-configuration"`
	}{Keys: []jsonWebKey{}}
	claims.Configuration.Isolation, claims.Configuration.TPM = isolation, true
	if key, ok := p.keys[HandleAK].(*rsa.PublicKey); ok {
		encode := base64.RawURLEncoding.EncodeToString
		claims.Keys = append(claims.Keys, jsonWebKey{
			ID: "HCLAkPub", Operations: []string{"sign"}, Type: "RSA",
			Exponent: encode(big.NewInt(int64(key.E)).Bytes()), Modulus: encode(key.N.Bytes()),
		})
	}
	return json.Marshal(claims)
}
