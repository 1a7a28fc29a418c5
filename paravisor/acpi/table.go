package acpi

import (
	"encoding/binary"

	"keel/hcl/abi/x86"
)

// Identification in every table.
const (
	oemID      = "KEEL  "
	oemTableID = "KEELVTL0"
	creatorID  = "KEEL"
	revision   = 1 // of the tables as a whole
)

const headerSize = 36

// le writes the numbers of the tables.
var le = binary.LittleEndian

// newTable returns a table with its header (ACPI §5.2.6) and the given body.
// The checksum is right.
func newTable(signature string, rev uint8, body []byte) []byte {
	t := make([]byte, headerSize, headerSize+len(body))
	copy(t, signature)
	le.PutUint32(t[4:], uint32(headerSize+len(body)))
	t[8] = rev
	copy(t[10:16], oemID)
	copy(t[16:24], oemTableID)
	le.PutUint32(t[24:], revision)
	copy(t[28:32], creatorID)
	le.PutUint32(t[32:], revision)
	t = append(t, body...)
	t[9] = checksum(t)
	return t
}

// checksum returns what makes the sum of all bytes zero; the place for it is
// still zero.
func checksum(b []byte) byte {
	var sum byte
	for _, c := range b {
		sum += c
	}
	return -sum
}

// rsdp returns the root pointer, revision 2 (ACPI §5.2.5.3). There is no RSDT:
// every guest that Keel runs reads the XSDT.
func rsdp(xsdt x86.GPA) []byte {
	const oldSize, size = 20, 36
	b := make([]byte, size)
	copy(b, "RSD PTR ")
	copy(b[9:15], oemID)
	b[15] = 2
	le.PutUint32(b[20:], size)
	le.PutUint64(b[24:], uint64(xsdt))
	b[8] = checksum(b[:oldSize])
	b[32] = checksum(b)
	return b
}

// xsdt returns the table of tables (ACPI §5.2.8).
func xsdt(tables []x86.GPA) []byte {
	var body []byte
	for _, t := range tables {
		body = le.AppendUint64(body, uint64(t))
	}
	return newTable("XSDT", 1, body)
}

// facs returns the firmware control structure (ACPI §5.2.10). Nothing in it is
// used: the machine does not sleep in memory. It has no checksum.
func facs() []byte {
	const size, version = 64, 2
	b := make([]byte, size)
	copy(b, "FACS")
	le.PutUint32(b[4:], size)
	b[32] = version
	return b
}

// PCI Express buses in ECAM.
const (
	busSize  = 1 << 20
	maxBuses = 256
)

// mcfg returns the place of PCI configuration space (PCI Firmware 3.3 §4.1.2):
// eight reserved bytes and one allocation for segment 0.
func mcfg(m Machine) []byte {
	body := make([]byte, 24)
	le.PutUint64(body[8:], uint64(m.ECAM.Base))
	body[18] = 0 // first bus
	body[19] = byte(m.ECAM.Size/busSize - 1)
	return newTable("MCFG", 1, body)
}
