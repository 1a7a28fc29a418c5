package vtpm

import (
	"encoding/binary"

	"keel/vtpm/wire"
)

// Permanent handles (Library part 2 §7.4).
const (
	rsPW       = 0x40000009
	rhOwner    = 0x40000001
	rhPlatform = 0x4000000C
)

// effect tells what a command does to the volatile state.
//
// Preconditions: the caller has the turn.
func (t *TPM) effect(command []byte) wire.Effect {
	switch {
	case keepsState(command):
		return wire.Keeps
	case t.repeatable(command):
		return wire.Repeats
	}
	return wire.Changes
}

// keepsState tells whether a command leaves the volatile state as it was, as far as a
// guest can tell: it reads, and no session's nonces roll. It is then not saved again.
// Such commands move the generator of random numbers on, which a TPM that goes on from
// saved state seeds anew, and the clock, which time moves anyway.
func keepsState(command []byte) bool {
	if len(command) < headerSize {
		return false
	}
	tag := binary.BigEndian.Uint16(command)
	switch code(command) {
	case ccSelfTest, ccNVReadPublic, ccReadPublic, ccGetCapability, ccGetRandom, ccGetTestResult, ccPCRRead, ccReadClock:
		return tag == tagNoSessions
	case ccNVRead:
		return tag == tagSessions && passwordOfHierarchy(command[headerSize:])
	}
	return false
}

// passwordOfHierarchy tells whether the handles and the authorization area of NV_Read say
// that the owner or the platform reads, with a password alone. An index that authorizes
// its own reads may count them.
func passwordOfHierarchy(b []byte) bool {
	const area = 8 // after two handles
	if len(b) < area {
		return false
	}
	by := binary.BigEndian.Uint32(b)
	return (by == rhOwner || by == rhPlatform) && passwordAlone(b[area:])
}

// passwordAlone tells whether the authorization area of a command, its size first, has
// one session that is a password (TPM_RS_PW), and no other: no nonce rolls (Library
// part 1 §18.4). What follows the area does not matter.
func passwordAlone(area []byte) bool {
	const (
		session = 4             // handle, nonce size, attributes, password size
		fixed   = 4 + 2 + 1 + 2 // size of that without the password
	)
	if len(area) < session+fixed {
		return false
	}
	be := binary.BigEndian
	return be.Uint32(area[session:]) == rsPW && be.Uint16(area[session+4:]) == 0 &&
		be.Uint32(area) == fixed+uint32(be.Uint16(area[session+7:]))
}
