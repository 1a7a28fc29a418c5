package boot

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"keel/boot/handoff"
	"keel/boot/igvm"
	"keel/boot/measure"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/tdx"
)

// maxEvidence bounds what is read of an evidence file: a quote with its
// certificates has some kilobytes.
const maxEvidence = 64 << 10

// Versions of SNP attestation reports that are known: they share what is read here.
const (
	snpVersionFirst = 2
	snpVersionLast  = 5
)

// Offsets in a quote of version 4 (TDX DCAP Quoting Library API, A.3).
const (
	quoteVersion    = 4
	quoteTEE        = 4 // u32: tdx.REPORT_TYPE_TDX
	quoteAttributes = 48 + 120
	quoteMRTD       = 48 + 136
	quoteConfig     = 48 + 184
	quoteData       = 48 + 520
	quoteAuthBytes  = 48 + 584 // u32, then as many bytes
	quoteLeast      = quoteAuthBytes + 4
)

// evidence is what a report or quote says. Digests, data and policy are the
// evidence's own word: nothing here checks a signature.
type evidence struct {
	platform    igvm.PlatformType
	form        string
	measurement measure.Digest
	policy      uint64 // SNP: guest policy, TDX: ATTRIBUTES
	hostData    []byte // SNP: HOST_DATA, TDX: MRCONFIGID
	reportData  []byte
	// SNP only.
	vmpl, svn          uint32
	familyID, imageID  [16]byte
	idKey, authorKey   measure.Digest
	authorKeyIsPresent bool
}

// badEvidence says that the evidence cannot be read.
func badEvidence(name, cause string) error {
	return &handoff.Failure{
		Outcome: handoff.OutcomeBadConfig, Cause: "evidence " + name + " " + cause,
		Remedy: "fetch it again: a raw SNP attestation report (1184 bytes), a TDX quote of version 4, or a TDREPORT (1024 bytes)",
	}
}

// readEvidence reads an evidence file.
func readEvidence(path string) (*evidence, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &handoff.Failure{
			Outcome: handoff.OutcomeBadConfig, Cause: "evidence cannot be read", Remedy: "check the path and its permissions", Err: err,
		}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxEvidence+1))
	if err != nil {
		return nil, &handoff.Failure{Outcome: handoff.OutcomeBadConfig, Cause: "evidence cannot be read", Remedy: "give a file", Err: err}
	}
	return parseEvidence(path, b)
}

// parseEvidence tells the forms apart, a report of either kind by its size. Errors
// are *handoff.Failure with OutcomeBadConfig.
func parseEvidence(name string, b []byte) (*evidence, error) {
	le := binary.LittleEndian
	switch {
	case len(b) > maxEvidence:
		return nil, badEvidence(name, "is too large for evidence")
	case len(b) == snp.REPORT_SIZE:
		return parseSNPReport(name, b)
	case len(b) == tdx.REPORT_SIZE && b[0] == tdx.REPORT_TYPE_TDX:
		return &evidence{
			platform: igvm.PlatformTDX, form: "TDREPORT", measurement: measure.Digest(b[tdx.REPORT_TDINFO+tdx.TDINFO_MRTD:][:measure.DigestSize]),
			policy: le.Uint64(b[tdx.REPORT_TDINFO+tdx.TDINFO_ATTRIBUTES:]), hostData: b[tdx.REPORT_TDINFO+tdx.TDINFO_MRCONFIGID:][:measure.DigestSize], reportData: b[tdx.REPORT_DATA:][:64],
		}, nil
	case len(b) >= quoteTEE+4 && le.Uint32(b[quoteTEE:]) == tdx.REPORT_TYPE_TDX:
		return parseQuote(name, b)
	case len(b) < snp.REPORT_SIZE:
		return nil, badEvidence(name, fmt.Sprintf("is truncated or foreign: %d bytes", len(b)))
	}
	return nil, badEvidence(name, fmt.Sprintf("is of an unknown form: %d bytes", len(b)))
}

func parseSNPReport(name string, b []byte) (*evidence, error) {
	le := binary.LittleEndian
	version := le.Uint32(b[snp.REPORT_VERSION:])
	if version < snpVersionFirst || version > snpVersionLast {
		return nil, badEvidence(name, fmt.Sprintf("is an SNP report of version %d, known are %d to %d", version, snpVersionFirst, snpVersionLast))
	}
	return &evidence{
		platform: igvm.PlatformSNP, form: fmt.Sprintf("SNP attestation report, version %d", version),
		measurement: measure.Digest(b[snp.REPORT_MEASUREMENT:][:measure.DigestSize]), policy: le.Uint64(b[snp.REPORT_POLICY:]),
		hostData: b[snp.REPORT_HOST_DATA:][:32], reportData: b[snp.REPORT_DATA:][:64],
		vmpl: le.Uint32(b[snp.REPORT_VMPL:]), svn: le.Uint32(b[snp.REPORT_GUEST_SVN:]),
		familyID: [16]byte(b[snp.REPORT_FAMILY_ID:][:16]), imageID: [16]byte(b[snp.REPORT_IMAGE_ID:][:16]),
		idKey: measure.Digest(b[snp.REPORT_ID_KEY_DIGEST:][:measure.DigestSize]), authorKey: measure.Digest(b[snp.REPORT_AUTHOR_KEY_DIGEST:][:measure.DigestSize]),
		authorKeyIsPresent: le.Uint32(b[snp.REPORT_FLAGS:])&snp.REPORT_FLAG_AUTHOR_KEY != 0,
	}, nil
}

func parseQuote(name string, b []byte) (*evidence, error) {
	le := binary.LittleEndian
	if v := le.Uint16(b); v != quoteVersion {
		return nil, badEvidence(name, fmt.Sprintf("is a TDX quote of version %d, known is %d", v, quoteVersion))
	}
	if len(b) < quoteLeast || uint64(le.Uint32(b[quoteAuthBytes:])) > uint64(len(b)-quoteLeast) {
		return nil, badEvidence(name, fmt.Sprintf("is a truncated TDX quote: %d bytes", len(b)))
	}
	return &evidence{
		platform: igvm.PlatformTDX, form: fmt.Sprintf("TDX quote, version %d", quoteVersion),
		measurement: measure.Digest(b[quoteMRTD:][:measure.DigestSize]), policy: le.Uint64(b[quoteAttributes:]),
		hostData: b[quoteConfig:][:measure.DigestSize], reportData: b[quoteData:][:64],
	}, nil
}
