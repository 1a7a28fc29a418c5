package keyrelease

import (
	"encoding/binary"
	"fmt"

	"keel/diag/attest/claims"
)

// Layout of a message, version 2. Integers are little endian:
//
//	0x00  4  magic "KLKR"
//	0x04  2  version, 2
//	0x06  2  kind
//	0x08  4  length of the body
//	0x0c     body
//
// Bodies:
//
//	hello      public key (32), name of the VM
//	challenge  nonce (32)
//	evidence   claims.Evidence as JSON
//	release    encapsulated key (32), sealed key (32 + 16), signature (64)
//	refusal    reason, printable ASCII; signature (64)
//	report     State (76), claims.Evidence as JSON
//	accepted   floor (8), signature (64)
//
// Version 1 had no reports: who speaks it gets no key, since it would tell nobody what
// becomes of its state.
const (
	magic      = "KLKR"
	version    = 2
	headerSize = 0x0c

	atVersion = 0x04
	atKind    = 0x06
	atLength  = 0x08

	signatureSize = 64
	sealedSize    = publicSize + KeySize + tagSize
	floorSize     = 8
)

// kind says what a message is.
type kind uint16

const (
	kindHello kind = iota + 1
	kindChallenge
	kindEvidence
	kindRelease
	kindRefusal
	kindReport
	kindAccepted
)

// bounds are the least and the greatest lengths of bodies.
var bounds = map[kind]struct {
	name     string
	min, max uint32
}{
	kindHello:     {"hello", publicSize + 1, publicSize + MaxName},
	kindChallenge: {"challenge", nonceSize, nonceSize},
	kindEvidence:  {"evidence", 1, claims.MaxEvidence},
	kindRelease:   {"release", sealedSize + signatureSize, sealedSize + signatureSize},
	kindRefusal:   {"refusal", 1 + signatureSize, MaxReason + signatureSize},
	kindReport:    {"report", stateSize + 1, stateSize + claims.MaxEvidence},
	kindAccepted:  {"accepted", floorSize + signatureSize, floorSize + signatureSize},
}

// String names the kind.
func (k kind) String() string {
	if b, ok := bounds[k]; ok {
		return b.name
	}
	return fmt.Sprintf("kind %d", uint16(k))
}

// header returns the header of a message.
func header(k kind, length int) []byte {
	b := append(make([]byte, 0, headerSize), magic...)
	b = binary.LittleEndian.AppendUint16(b, version)
	b = binary.LittleEndian.AppendUint16(b, uint16(k))
	return binary.LittleEndian.AppendUint32(b, uint32(length))
}

// parseHeader checks a header, and that its kind is one of those that are due.
func parseHeader(b [headerSize]byte, due ...kind) (k kind, length int, err error) {
	le := binary.LittleEndian
	if string(b[:len(magic)]) != magic {
		return 0, 0, fmt.Errorf("%w: %q is no begin of one; is this the address of a Keel key server?", ErrMalformed, b[:len(magic)])
	}
	if v := le.Uint16(b[atVersion:]); v != version {
		return 0, 0, fmt.Errorf("%w: the other end speaks version %d of the key release, this program version %d; use the same Keel on both sides",
			ErrVersion, v, version)
	}
	k = kind(le.Uint16(b[atKind:]))
	for _, d := range due {
		if k != d {
			continue
		}
		n := le.Uint32(b[atLength:])
		if limit := bounds[k]; n < limit.min || n > limit.max {
			return 0, 0, fmt.Errorf("%w: %v of %d bytes; it has %d to %d", ErrMalformed, k, n, limit.min, limit.max)
		}
		return k, int(n), nil
	}
	return 0, 0, fmt.Errorf("%w: %v, due is %v; use the same Keel on both sides", ErrMalformed, k, due[0])
}

// hello is what a client begins with.
type hello struct {
	public [publicSize]byte
	vm     string
}

func (h *hello) marshal() []byte { return append(h.public[:], h.vm...) }

// parseHello checks the body of a hello. Its length is within bounds.
func parseHello(body []byte) (*hello, error) {
	h := &hello{public: [publicSize]byte(body[:publicSize]), vm: string(body[publicSize:])}
	if err := CheckName(h.vm); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return h, nil
}

// parseReason checks the text of a refusal.
func parseReason(text []byte) (string, error) {
	for i, c := range text {
		if c < 0x20 || c > 0x7e {
			return "", fmt.Errorf("%w: a reason with the byte %#02x at %d; use the same Keel on both sides", ErrMalformed, c, i)
		}
	}
	return string(text), nil
}
