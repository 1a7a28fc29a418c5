package claims

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
)

// ReportType says who signed the hardware report (openhcl_attestation_protocol,
// IgvmAttestReportType).
type ReportType uint32

// Report types.
const (
	ReportNone ReportType = 0
	ReportVBS  ReportType = 1
	ReportSNP  ReportType = 2
	ReportTVM  ReportType = 3
	ReportTDX  ReportType = 4
)

// HashType says how the report data depends on the runtime claims (IgvmAttestHashType).
type HashType uint32

// Hash types. Azure's tools expect HashSHA256.
const (
	HashSHA256 HashType = 1
	HashSHA384 HashType = 2
	HashSHA512 HashType = 3
)

// Request types (IgvmAttestRequestType).
const (
	RequestKeyRelease = 1
	RequestAKCert     = 2 // of the report in the TPM
	RequestWrappedKey = 3
)

// IndexHCLReport is the TPM's NV index that holds the report.
const IndexHCLReport = 0x01400001

// Layout of the report in the TPM: Microsoft, "Confidential VM guest attestation design
// detail", section "Attestation report format", and OpenHCL's IgvmAttestRequestBase. All
// integers are little endian.
const (
	hclSignature  = "HCLA"
	hclVersion    = 2 // of what is written; Azure's first machines have 1
	hclOldest     = 1
	hclVersionAt  = 4
	hclSizeAt     = 8 // of all, up to the claims' end
	hclRequestAt  = 12
	hclStatusAt   = 16
	hclReservedAt = 20
	hclHeader     = 32

	// HardwareReportSize is the room for the hardware report, that of an SNP report.
	HardwareReportSize = 1184
	tdReportSize       = 1024

	dataAt         = hclHeader + HardwareReportSize // IGVM_REQUEST_DATA
	dataSizeAt     = dataAt                         // of this header and the claims
	dataVersionAt  = dataAt + 4
	dataTypeAt     = dataAt + 8
	dataHashAt     = dataAt + 12
	dataVariableAt = dataAt + 16 // size of the claims
	claimsAt       = dataAt + 20
	dataVersion    = 1

	// MaxRuntime bounds the runtime claims in bytes. Azure's index has 2,900 bytes in all.
	MaxRuntime = 16 << 10
)

// HCLReport is the contents of the TPM's NV index IndexHCLReport: a hardware report and
// the runtime claims that it vouches for.
type HCLReport struct {
	Type     ReportType
	Hash     HashType
	Request  uint32 // RequestAKCert if zero
	Status   uint32
	Hardware []byte // SNP attestation report or TDREPORT
	Runtime  []byte // JSON, see RuntimeClaims
}

// hardwareSize is the size of a type's report in bytes, or false for one that this program
// does not know.
func hardwareSize(t ReportType) (int, bool) {
	switch t {
	case ReportNone, ReportTVM:
		return 0, true
	case ReportSNP:
		return HardwareReportSize, true
	case ReportTDX:
		return tdReportSize, true
	default:
		return 0, false
	}
}

// Marshal returns the report, of at most limit bytes: the size of the NV index. Its errors
// are ErrSize, with the number of bytes too many, and ErrFormat.
func (r *HCLReport) Marshal(limit int) ([]byte, error) {
	want, ok := hardwareSize(r.Type)
	if !ok || len(r.Hardware) != want {
		return nil, fmt.Errorf("%w: a hardware report of %d bytes for type %d", ErrFormat, len(r.Hardware), r.Type)
	}
	if over := claimsAt + len(r.Runtime) - limit; over > 0 || len(r.Runtime) > MaxRuntime {
		return nil, fmt.Errorf("%w: runtime claims of %d bytes are %d bytes too long; leave a key out, or give the ECC one", ErrSize, len(r.Runtime), max(over, 0))
	}
	b := make([]byte, claimsAt, claimsAt+len(r.Runtime))
	copy(b, hclSignature)
	request := r.Request
	if request == 0 {
		request = RequestAKCert
	}
	hash := r.Hash
	if hash == 0 {
		hash = HashSHA256
	}
	for _, f := range []struct {
		at    int
		value uint32
	}{
		{hclVersionAt, hclVersion},
		{hclSizeAt, uint32(claimsAt + len(r.Runtime))},
		{hclRequestAt, request},
		{hclStatusAt, r.Status},
		{dataSizeAt, uint32(claimsAt - dataAt + len(r.Runtime))},
		{dataVersionAt, dataVersion},
		{dataTypeAt, uint32(r.Type)},
		{dataHashAt, uint32(hash)},
		{dataVariableAt, uint32(len(r.Runtime))},
	} {
		binary.LittleEndian.PutUint32(b[f.at:], f.value)
	}
	copy(b[hclHeader:], r.Hardware)
	return append(b, r.Runtime...), nil
}

// ParseHCLReport decodes what an NV index holds: a report and then, where the index is
// larger, zeros or ones. Its errors are ErrTruncated, ErrVersion, ErrFormat and ErrSize.
func ParseHCLReport(b []byte) (*HCLReport, error) {
	if len(b) < claimsAt {
		return nil, fmt.Errorf("%w: %d bytes; a report has at least %d. Read the whole NV index", ErrTruncated, len(b), claimsAt)
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	if string(b[:len(hclSignature)]) != hclSignature {
		return nil, fmt.Errorf("%w: no signature %q; is it NV index %#x?", ErrFormat, hclSignature, IndexHCLReport)
	}
	if v, d := u32(hclVersionAt), u32(dataVersionAt); v < hclOldest || v > hclVersion || d != dataVersion {
		return nil, fmt.Errorf("%w: a report of versions %d and %d; this program knows %d to %d and %d", ErrVersion, v, d, hclOldest, hclVersion, dataVersion)
	}
	r := &HCLReport{Type: ReportType(u32(dataTypeAt)), Hash: HashType(u32(dataHashAt)), Request: u32(hclRequestAt), Status: u32(hclStatusAt)}
	size, ok := hardwareSize(r.Type)
	if !ok {
		return nil, fmt.Errorf("%w: a hardware report of type %d; use a verifier that knows it", ErrVersion, r.Type)
	}
	switch {
	case r.Hash < HashSHA256 || r.Hash > HashSHA512:
		return nil, fmt.Errorf("%w: hash type %d; use a verifier that knows it", ErrVersion, r.Hash)
	case r.Request < RequestKeyRelease || r.Request > RequestWrappedKey:
		return nil, fmt.Errorf("%w: request type %d; use a verifier that knows it", ErrVersion, r.Request)
	case !uniform(b[hclReservedAt:hclHeader], 0), !uniform(b[hclHeader+size:dataAt], 0):
		return nil, fmt.Errorf("%w: reserved bytes are in use; fetch the report again", ErrFormat)
	}
	n := u32(dataVariableAt)
	switch {
	case n > MaxRuntime:
		return nil, fmt.Errorf("%w: runtime claims of %d bytes; at most %d are read", ErrSize, n, MaxRuntime)
	case u32(dataSizeAt) != n+(claimsAt-dataAt):
		return nil, fmt.Errorf("%w: sizes %d and %d of the claims disagree; fetch the report again", ErrFormat, u32(dataSizeAt), n)
	case u32(hclSizeAt) != claimsAt+n:
		return nil, fmt.Errorf("%w: the report's size is %d and should be %d; fetch it again", ErrFormat, u32(hclSizeAt), claimsAt+n)
	case int(n) > len(b)-claimsAt:
		return nil, fmt.Errorf("%w: runtime claims of %d bytes end after %d; read the whole NV index", ErrTruncated, n, len(b)-claimsAt)
	}
	// What an index has beyond the report was never written, or is filled up.
	if rest := b[claimsAt+int(n):]; !uniform(rest, 0) && !uniform(rest, 0xff) {
		return nil, fmt.Errorf("%w: %d bytes follow the claims; read one NV index only", ErrFormat, len(rest))
	}
	r.Hardware = bytes.Clone(b[hclHeader:][:size])
	r.Runtime = bytes.Clone(b[claimsAt:][:n])
	return r, nil
}

func uniform(b []byte, v byte) bool {
	for _, x := range b {
		if x != v {
			return false
		}
	}
	return true
}

// RuntimeData is the report data that binds runtime claims as Azure's tools expect it: the
// hash, and zeros after it. An unknown hash gives false.
func RuntimeData(hash HashType, runtime []byte) (data [64]byte, ok bool) {
	switch hash {
	case HashSHA256:
		sum := sha256.Sum256(runtime)
		copy(data[:], sum[:])
	case HashSHA384:
		sum := sha512.Sum384(runtime)
		copy(data[:], sum[:])
	case HashSHA512:
		data = sha512.Sum512(runtime)
	default:
		return data, false
	}
	return data, true
}

// Offsets of the report data in the hardware reports.
const (
	snpReportData = 0x50
	tdReportData  = 0x80
)

// Bound reports whether the hardware report speaks for the runtime claims. It says nothing
// about the hardware report's signature.
func (r *HCLReport) Bound() bool {
	at := 0
	switch {
	case r.Type == ReportSNP && len(r.Hardware) == HardwareReportSize:
		at = snpReportData
	case r.Type == ReportTDX && len(r.Hardware) == tdReportSize:
		at = tdReportData
	default:
		return false
	}
	want, ok := RuntimeData(r.Hash, r.Runtime)
	return ok && bytes.Equal(r.Hardware[at:][:len(want)], want[:])
}
