package measure

import (
	"encoding/binary"
	"unicode/utf16"
)

// le writes the numbers of event data.
var le = binary.LittleEndian

// The tagged event of the initrd (Linux drivers/firmware/efi/libstub/efistub.h,
// INITRD_EVENT_TAG_ID).
const (
	initrdTag  = 0x8f3b22ec
	initrdName = "Linux initrd\x00"
)

// tagged returns a TCG_PCClientTaggedEvent (PFP §10.4.2.1): u32 tag, u32 size, data.
func tagged(tag uint32, data string) []byte {
	b := le.AppendUint32(nil, tag)
	return append(le.AppendUint32(b, uint32(len(data))), data...)
}

// Vendor GUIDs of the variables (UEFI 2.10 §3.3 and §32.6.1), in memory order.
var (
	globalVariable = [16]byte{
		0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
	}
	imageSecurity = [16]byte{
		0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
	}
)

// secureBoot returns the data of the events that say that Secure Boot is off and that
// there are no keys, in the order of PFP §3.3.4.8.
func secureBoot() [][]byte {
	return [][]byte{
		variable(globalVariable, "SecureBoot", []byte{0}),
		variable(globalVariable, "PK", nil),
		variable(globalVariable, "KEK", nil),
		variable(imageSecurity, "db", nil),
		variable(imageSecurity, "dbx", nil),
	}
}

// variable returns a UEFI_VARIABLE_DATA (PFP §10.2.6): GUID, u64 length of the name in
// UTF-16 units, u64 length of the data in bytes, the name without NUL, the data.
func variable(vendor [16]byte, name string, data []byte) []byte {
	units := utf16.Encode([]rune(name))
	b := append([]byte(nil), vendor[:]...)
	b = le.AppendUint64(b, uint64(len(units)))
	b = le.AppendUint64(b, uint64(len(data)))
	for _, u := range units {
		b = le.AppendUint16(b, u)
	}
	return append(b, data...)
}
