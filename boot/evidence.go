package boot

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"keel/boot/handoff"
	"keel/boot/igvm"
	"keel/boot/measure"
)

// maxEvidence bounds what is read of an evidence file: a quote with its
// certificates has some kilobytes.
const maxEvidence = 64 << 10

// Offsets in an SNP attestation report (SNP ABI 7.3, ATTESTATION_REPORT).
const (
	snpVersion      = 0x000 // u32
	snpSVN          = 0x004 // u32
	snpPolicyWord   = 0x008 // u64
	snpFamily       = 0x010 // 16 bytes
	snpImage        = 0x020 // 16 bytes
	snpVMPL         = 0x030 // u32
	snpFlags        = 0x048 // u32, bit 0: the author key's digest is there
	snpReportData   = 0x050 // 64 bytes
	snpMeasurement  = 0x090
	snpHostData     = 0x0c0 // 32 bytes
	snpIDKey        = 0x0e0
	snpAuthorKey    = 0x110
	snpReportBytes  = 0x4a0
	snpVersionFirst = 2
	snpVersionLast  = 5
)

// Offsets in a TDREPORT_STRUCT (TDX module ABI, "Measurement and Attestation
// Types"), and in a quote of version 4 (TDX DCAP Quoting Library API, A.3).
const (
	tdReportBytes      = 1024
	tdReportType       = 0x81
	tdReportAttributes = 512
	tdReportMRTD       = 528
	tdReportData       = 128
	tdReportConfig     = 576

	quoteVersion    = 4
	quoteTEE        = 4 // u32: tdReportType
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
	case len(b) == snpReportBytes:
		return parseSNPReport(name, b)
	case len(b) == tdReportBytes && b[0] == tdReportType:
		return &evidence{
			platform: igvm.PlatformTDX, form: "TDREPORT", measurement: measure.Digest(b[tdReportMRTD:][:measure.DigestSize]),
			policy: le.Uint64(b[tdReportAttributes:]), hostData: b[tdReportConfig:][:measure.DigestSize], reportData: b[tdReportData:][:64],
		}, nil
	case len(b) >= quoteTEE+4 && le.Uint32(b[quoteTEE:]) == tdReportType:
		return parseQuote(name, b)
	case len(b) < snpReportBytes:
		return nil, badEvidence(name, fmt.Sprintf("is truncated or foreign: %d bytes", len(b)))
	}
	return nil, badEvidence(name, fmt.Sprintf("is of an unknown form: %d bytes", len(b)))
}

func parseSNPReport(name string, b []byte) (*evidence, error) {
	le := binary.LittleEndian
	version := le.Uint32(b[snpVersion:])
	if version < snpVersionFirst || version > snpVersionLast {
		return nil, badEvidence(name, fmt.Sprintf("is an SNP report of version %d, known are %d to %d", version, snpVersionFirst, snpVersionLast))
	}
	return &evidence{
		platform: igvm.PlatformSNP, form: fmt.Sprintf("SNP attestation report, version %d", version),
		measurement: measure.Digest(b[snpMeasurement:][:measure.DigestSize]), policy: le.Uint64(b[snpPolicyWord:]),
		hostData: b[snpHostData:][:32], reportData: b[snpReportData:][:64],
		vmpl: le.Uint32(b[snpVMPL:]), svn: le.Uint32(b[snpSVN:]),
		familyID: [16]byte(b[snpFamily:][:16]), imageID: [16]byte(b[snpImage:][:16]),
		idKey: measure.Digest(b[snpIDKey:][:measure.DigestSize]), authorKey: measure.Digest(b[snpAuthorKey:][:measure.DigestSize]),
		authorKeyIsPresent: le.Uint32(b[snpFlags:])&1 != 0,
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
