package wire

import "encoding/binary"

// PasswordAlone tells whether the authorization area of a command, its size first, has
// one session that is a password (TPM_RS_PW), and no other: no nonce rolls (TPM 2.0
// Library part 1 §18.4, part 2 §7.4). What follows the area does not matter.
func PasswordAlone(area []byte) bool {
	const (
		session = 4             // handle, nonce size, attributes, password size
		fixed   = 4 + 2 + 1 + 2 // size of that without the password
		rsPW    = 0x40000009
	)
	if len(area) < session+fixed {
		return false
	}
	be := binary.BigEndian
	return be.Uint32(area[session:]) == rsPW && be.Uint16(area[session+4:]) == 0 &&
		be.Uint32(area) == fixed+uint32(be.Uint16(area[session+7:]))
}
