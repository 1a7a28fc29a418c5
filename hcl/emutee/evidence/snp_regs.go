package evidence

// Offsets in an ATTESTATION_REPORT: SEV Secure Nested Paging Firmware ABI Specification
// (AMD 56860), table "ATTESTATION_REPORT".
const (
	snpVersion       = 0x000 // u32
	snpGuestSVN      = 0x004 // u32
	snpPolicy        = 0x008 // u64
	snpFamilyID      = 0x010 // 16 bytes
	snpImageID       = 0x020 // 16 bytes
	snpVMPL          = 0x030 // u32
	snpSignatureAlgo = 0x034 // u32
	snpCurrentTCB    = 0x038 // u64
	snpSignerInfo    = 0x048 // u32
	snpReportData    = 0x050 // 64 bytes
	snpMeasurement   = 0x090 // 48 bytes
	snpHostData      = 0x0c0 // 32 bytes
	snpIDKeyDigest   = 0x0e0 // 48 bytes
	snpAuthorDigest  = 0x110 // 48 bytes
	snpReportID      = 0x140 // 32 bytes
	snpReportIDMA    = 0x160 // 32 bytes
	snpReportedTCB   = 0x180 // u64
	snpFamily        = 0x188 // u8 each, from version 3 on: CPUID family, model, stepping
	snpModel         = 0x189
	snpStepping      = 0x18a
	snpChipID        = 0x1a0 // 64 bytes
	snpCommittedTCB  = 0x1e0 // u64
	snpCurrentFW     = 0x1e8 // u8 build, minor, major
	snpCommittedFW   = 0x1ec // u8 build, minor, major
	snpLaunchTCB     = 0x1f0 // u64
	snpSignature     = 0x2a0 // R and S of 72 bytes each, little endian, then zeros
	snpSignatureS    = 72

	algoECDSAP384 = 1
	signerAuthor  = 1 << 0 // SIGNER_INFO: the ID block has an author key; bits 4:2 zero: VCEK
)

// SNPReportSize is the size in bytes of an attestation report.
const SNPReportSize = 0x4a0

// Bits of a guest policy (AMD 56860, table "Guest Policy").
const (
	PolicySMT      = 1 << 16
	PolicyReserved = 1 << 17 // must be one
	PolicyMigrate  = 1 << 18 // a migration agent may be associated
	PolicyDebug    = 1 << 19 // the host may read the guest's memory
	PolicySocket   = 1 << 20 // the guest may run on one socket only
)

// The processor that the emulated AMD-SP belongs to: Milan, stepping B1. A verifier takes
// the product line from these numbers.
const (
	chipFamily   = 0x19
	chipModel    = 0x01
	chipStepping = 0x01
	chipProduct  = "Milan-B1"
)

// Extensions of a VCEK certificate: Versioned Chip Endorsement Key Certificate and KDS
// Interface Specification (AMD 57230), arcs under 1.3.6.1.4.1.3704.1.
var (
	arcStructVersion = []int{1}
	arcProductName   = []int{2}
	arcHardwareID    = []int{4}
	arcsTCB          = [8][]int{{3, 1}, {3, 2}, {3, 4}, {3, 5}, {3, 6}, {3, 7}, {3, 3}, {3, 8}} // by byte of a TCB_VERSION
)

// Entries of a certificate table (GHCB specification, AMD 56421, section 4.1.8.1): GUID in
// the order of RFC 4122, offset and length, then an entry of zeros.
const (
	guidVCEK = "\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd"
	guidASK  = "\x4a\xb7\xb3\x79\xbb\xac\x4f\xe4\xa0\x2f\x05\xae\xf3\x27\xc7\x82"
	guidARK  = "\xc0\xb4\x06\xa4\xa8\x03\x49\x52\x97\x43\x3f\xb6\x01\x4c\xd0\xae"

	tableEntry = 24
)

// GUEST_FIELD_SELECT of MSG_KEY_REQ (AMD 56860, table "MSG_KEY_REQ Message Structure"):
// what is mixed into a derived key.
const (
	SelectPolicy      = 1 << 0
	SelectImageID     = 1 << 1
	SelectFamilyID    = 1 << 2
	SelectMeasurement = 1 << 3
	SelectGuestSVN    = 1 << 4
	SelectTCB         = 1 << 5
	selectAll         = 1<<6 - 1
)

const highestVMPL = 3
