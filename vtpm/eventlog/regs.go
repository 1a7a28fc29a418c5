package eventlog

import "encoding/binary"

// le reads and writes the numbers of the log, which are little-endian (PFP §10.1).
var le = binary.LittleEndian

// EventType says what an event means (PFP §10.4.1, table "Events").
type EventType uint32

// Event types that Keel writes, or that change how a log is replayed.
const (
	EVNoAction                EventType = 0x00000003 // recorded, never extended
	EVSeparator               EventType = 0x00000004 // end of the firmware's part of a PCR
	EVEventTag                EventType = 0x00000006 // tagged event: u32 tag, u32 size, data
	EVSCRTMVersion            EventType = 0x00000008 // UTF-16 version of the firmware
	EVPostCode                EventType = 0x00000001 // code of the platform's firmware
	EVPlatformConfigFlags     EventType = 0x0000000a // configuration of the platform
	EVCompactHash             EventType = 0x0000000c // digest of anything, outside PCRs 0 to 3
	EVIPL                     EventType = 0x0000000d // initial program load: code and what it is given
	EVEFIVariableDriverConfig EventType = 0x80000001 // UEFI variable of the Secure Boot policy
)

// Legacy header event, TCG_PCClientPCREvent (PFP §10.2.1). Its digest is a SHA-1
// digest of zeroes whatever banks there are.
const (
	hdrPCR       = 0  // u32: 0
	hdrType      = 4  // u32: EVNoAction
	hdrDigest    = 8  // 20 bytes: 0
	hdrEventSize = 28 // u32
	hdrSize      = 32
)

// Specification ID event, TCG_EfiSpecIDEvent (PFP §10.4.5.1).
const (
	specSignature    = "Spec ID Event03\x00"
	specPlatform     = 16 // u32: 0, a client
	specVersionMinor = 20 // u8
	specVersionMajor = 21 // u8
	specErrata       = 22 // u8
	specUintnSize    = 23 // u8: 1 for UINT32, 2 for UINT64
	specAlgorithms   = 24 // u32 count, then u16 algorithm, u16 digest size each
	specFixed        = 28
	specAlgorithm    = 4 // bytes of one algorithm
	// u8 size and that many bytes of vendor information end the event.
)

// What the header says of the specification: family 2.0, errata 106 for PFP 1.06.
const (
	versionMajor = 2
	versionMinor = 0
	errata       = 106
	uintn64      = 2
)

// Crypto-agile event, TCG_PCR_EVENT2 (PFP §10.2.2): u32 PCR, u32 type, u32 count of
// digests, each u16 algorithm and its bytes, u32 size of the data, the data.
const (
	eventFixed = 12
	sizeField  = 4
)

// Bounds of what the reader accepts.
const (
	// PCRCount is how many PCRs a PC Client TPM has (PTP §4.6).
	PCRCount = 24
	// AreaSize is the size of the log area in bytes that Keel gives to the guest.
	AreaSize = 64 << 10
	// maxLog bounds the logs that Parse reads, in bytes.
	maxLog = 1 << 20
)

// startupLocality is the signature of the EVNoAction event that says from which
// locality TPM2_Startup came (PFP §10.4.5.3); one byte of locality follows.
const startupLocality = "StartupLocality\x00"
