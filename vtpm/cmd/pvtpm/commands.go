package main

import (
	"encoding/binary"

	"keel/vtpm/wire"
)

// Library part 2: §6.9 (structure tags), §6.5.2 (command codes), §6.6.3 (response codes), §7.4
// (permanent handles).
const (
	tagNoSessions = 0x8001
	tagSessions   = 0x8002

	rhOwner    = 0x40000001
	rhPlatform = 0x4000000C

	ccNVRead        = 0x14E
	ccSelfTest      = 0x143
	ccNVReadPublic  = 0x169
	ccReadPublic    = 0x173
	ccGetCapability = 0x17A
	ccGetRandom     = 0x17B
	ccGetTestResult = 0x17C
	ccPCRRead       = 0x17E
	ccReadClock     = 0x181
)

// canceled is a response with TPM_RC_CANCELED.
var canceled = []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x09}

// keepsState tells whether a command leaves the volatile state as it was, as far as a
// guest can tell: it reads, and no session's nonces roll. It is then not saved again.
// Such commands move the generator of random numbers on, which a TPM that goes on from
// saved state seeds anew, and the clock, which time moves anyway.
func keepsState(command []byte) bool {
	if len(command) < headerSize {
		return false
	}
	tag, cc := binary.BigEndian.Uint16(command), binary.BigEndian.Uint32(command[6:])
	switch cc {
	case ccSelfTest, ccNVReadPublic, ccReadPublic, ccGetCapability, ccGetRandom, ccGetTestResult, ccPCRRead, ccReadClock:
		return tag == tagNoSessions
	case ccNVRead:
		return tag == tagSessions && passwordOfHierarchy(command[headerSize:])
	}
	return false
}

// headerSize is the size of the header of a command or response: tag, size, code.
const headerSize = 10

// succeeded tells whether a response has TPM_RC_SUCCESS.
func succeeded(response []byte) bool {
	return len(response) >= headerSize && binary.BigEndian.Uint32(response[6:]) == 0
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
	return (by == rhOwner || by == rhPlatform) && wire.PasswordAlone(b[area:])
}
