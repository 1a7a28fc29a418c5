package vtpm

import (
	"encoding/binary"
	"fmt"
)

// RC is a response code of the TPM (Library part 2 §6.6). As an error it is what a
// command was refused with.
type RC uint32

// Response codes that the transport itself gives.
const (
	// RCFailure: the TPM failed while it ran the command.
	RCFailure RC = 0x101
	// RCCommandSize: the command is longer than the buffer, or empty.
	RCCommandSize RC = 0x142
	// RCLocality: there is no such locality.
	RCLocality RC = 0x907
	// RCCanceled: the command was cancelled.
	RCCanceled RC = 0x909
	// RCLockout: authorizations of DA-protected objects are refused for now.
	RCLockout RC = 0x921
	// RCNVUnavailable: the command would write state that cannot be made durable now.
	// It had no effect.
	RCNVUnavailable RC = 0x923
)

// Error returns the code in the form that specifications use.
func (r RC) Error() string { return fmt.Sprintf("TPM_RC %#x", uint32(r)) }

// Tags of responses (Library part 2 §6.9).
const (
	tagRspCommand = 0x00C4
	tagNoSessions = 0x8001
	tagSessions   = 0x8002
)

// headerSize is the size of a command's and of a response's header: tag, size, code.
const headerSize = 10

// appendResponse appends a response that is a code alone.
func appendResponse(b []byte, rc RC) []byte {
	b = binary.BigEndian.AppendUint16(b, tagNoSessions)
	b = binary.BigEndian.AppendUint32(b, headerSize)
	return binary.BigEndian.AppendUint32(b, uint32(rc))
}

// ResponseCode returns the code of a response: nil for TPM_RC_SUCCESS, else an RC. What
// is no response counts as RCFailure.
func ResponseCode(response []byte) error {
	if !wellFormed(response) {
		return RCFailure
	}
	if rc := code(response); rc != 0 {
		return RC(rc)
	}
	return nil
}

// wellFormed tells whether b is a whole response and no more.
func wellFormed(b []byte) bool {
	if len(b) < headerSize || len(b) > MaxBuffer || uint64(binary.BigEndian.Uint32(b[2:])) != uint64(len(b)) {
		return false
	}
	switch binary.BigEndian.Uint16(b) {
	case tagNoSessions, tagSessions:
		return true
	case tagRspCommand:
		return len(b) == headerSize
	}
	return false
}

// code returns the code of a command or response, 0 where there is none.
func code(b []byte) uint32 {
	if len(b) < headerSize {
		return 0
	}
	return binary.BigEndian.Uint32(b[6:])
}

// Command codes (Library part 2 §6.5.2).
const (
	ccFirst         = 0x11F
	ccSelfTest      = 0x143
	ccStartup       = 0x144
	ccNVRead        = 0x14E
	ccNVReadPublic  = 0x169
	ccReadPublic    = 0x173
	ccGetCapability = 0x17A
	ccGetRandom     = 0x17B
	ccGetTestResult = 0x17C
	ccPCRRead       = 0x17E
	ccPCRExtend     = 0x182
	ccReadClock     = 0x181
	ccLast          = 0x1A0
)

// needsNoNV tells whether a command does its work while nothing can be made durable.
func needsNoNV(command []byte) bool {
	switch code(command) {
	case ccSelfTest, ccStartup, ccNVReadPublic, ccReadPublic, ccGetCapability, ccGetRandom, ccGetTestResult, ccPCRRead, ccPCRExtend, ccReadClock:
		return true
	}
	return false
}
