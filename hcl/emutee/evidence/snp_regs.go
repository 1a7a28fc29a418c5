package evidence

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
