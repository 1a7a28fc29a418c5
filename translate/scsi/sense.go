package scsi

import (
	"encoding/binary"
	"errors"

	"keel/translate/blk"
)

// SenseSize is the room for sense data in a Command: more than any it gets.
const SenseSize = 32

// sense is what a failed command says of itself (SPC-4, 4.5). It is small and
// passed by value.
type sense struct {
	key     uint8
	code    uint16 // ASC, ASCQ
	hasInfo bool
	pointer uint8  // what the field pointer points into, 0 for none
	bit     int8   // highest bit of the wrong field, negative for a whole byte
	field   uint16 // byte that is wrong
	info    uint64
}

// Where a field pointer points.
const (
	pointsNowhere = iota
	pointsToCDB
	pointsToData
)

// badCDB blames a field of the CDB by its first byte and highest bit.
func badCDB(field uint16, bit int8) sense {
	return sense{key: keyIllegalRequest, code: ascBadCDB, pointer: pointsToCDB, field: field, bit: bit}
}

// badParam blames a field of the parameter list.
func badParam(field uint16, bit int8) sense {
	return sense{key: keyIllegalRequest, code: ascBadParam, pointer: pointsToData, field: field, bit: bit}
}

func illegal(code uint16) sense { return sense{key: keyIllegalRequest, code: code} }

// encode writes fixed or descriptor format and returns the length.
func (s sense) encode(b []byte, descriptors bool) int {
	clear(b[:SenseSize])
	if descriptors {
		return s.encodeDescriptors(b)
	}
	// SPC-4, table 53.
	b[0] = 0x70
	b[2] = s.key
	if s.hasInfo && s.info>>32 == 0 {
		b[0] |= 0x80 // VALID
		binary.BigEndian.PutUint32(b[3:], uint32(s.info))
	}
	b[7] = 10
	binary.BigEndian.PutUint16(b[12:], s.code)
	s.encodePointer(b[15:])
	return 18
}

// encodeDescriptors writes descriptor format (SPC-4, 4.5.2).
func (s sense) encodeDescriptors(b []byte) int {
	b[0], b[1] = 0x72, s.key
	binary.BigEndian.PutUint16(b[2:], s.code)
	n := 8
	if s.hasInfo {
		b[n], b[n+1], b[n+2] = 0x00, 0x0a, 0x80
		binary.BigEndian.PutUint64(b[n+4:], s.info)
		n += 12
	}
	if s.pointer != pointsNowhere {
		b[n], b[n+1] = 0x02, 0x06
		s.encodePointer(b[n+4:])
		n += 8
	}
	b[7] = uint8(n - 8)
	return n
}

// encodePointer writes the sense-key specific bytes of ILLEGAL REQUEST (SPC-4,
// 4.5.2.4.2).
func (s sense) encodePointer(b []byte) {
	if s.pointer == pointsNowhere {
		return
	}
	b[0] = 0x80
	if s.pointer == pointsToCDB {
		b[0] |= 0x40
	}
	if s.bit >= 0 {
		b[0] |= 0x08 | uint8(s.bit)&7
	}
	binary.BigEndian.PutUint16(b[1:], s.field)
}

// diskError turns the error of a request into sense data. What the disk does not
// say is not guessed: INFORMATION is there when only one block can be meant.
//
// A disk that is gone answers LOGICAL UNIT NOT SUPPORTED, since nothing that the
// guest does brings it back (SPC-4, table 49); a drive for removable media says
// that it is empty.
func (c *Command) diskError(err error) sense {
	s := sense{key: keyHardwareError, code: ascTargetFailure}
	switch {
	case errors.Is(err, blk.ErrMedium):
		s = sense{key: keyMediumError, code: ascWriteError}
		if c.req.Op == blk.OpRead || c.req.Op == blk.OpCompare {
			s.code = ascReadError
		}
		if c.req.Blocks == c.u.scale && c.req.Op != blk.OpDiscard && c.req.Op != blk.OpFlush {
			s.hasInfo, s.info = true, c.req.LBA/uint64(c.u.scale)
		}
	case errors.Is(err, blk.ErrProtected):
		s = sense{key: keyDataProtect, code: ascWriteProtected}
	case errors.Is(err, blk.ErrRange):
		s = illegal(ascBadLBA)
	case errors.Is(err, blk.ErrMiscompare):
		s = sense{key: keyMiscompare, code: ascMiscompare}
	case errors.Is(err, blk.ErrFull):
		s = sense{key: keyDataProtect, code: ascSpaceAllocation}
	case errors.Is(err, blk.ErrUnsupported):
		s = illegal(ascBadCDB)
	case errors.Is(err, blk.ErrAborted):
		s = sense{key: keyAbortedCommand, code: ascTargetFailure} // worth another try
	case errors.Is(err, blk.ErrRemoved):
		s = illegal(ascBadLUN)
		if c.u.kind == kindDVD {
			s = sense{key: keyNotReady, code: ascNoMedium}
		}
	}
	return s
}
