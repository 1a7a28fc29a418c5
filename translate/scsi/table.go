package scsi

import (
	"encoding/hex"
	"strings"
)

// operation is a command that some kind of logical unit supports. The one table
// of them dispatches commands and answers REPORT SUPPORTED OPERATION CODES.
type operation struct {
	opcode  uint8
	service bool // action counts
	action  uint8
	length  uint8 // of the CDB
	usage   [CDBSize]byte
	access  access
	kinds   uint8 // bit set of kinds
	flags   uint8
	seconds uint16 // recommended time-out
	run     func(*Command)
}

// Flags of operations.
const (
	// quiet commands do not report unit attentions (SPC-4, 5.14.4; MMC-6, 4.1.6).
	quiet = 1 << iota
	// discards: only where the disk does that too.
	discards
)

// Who supports an operation.
const (
	onDisk   = 1 << kindDisk
	onDVD    = 1 << kindDVD
	onAbsent = 1 << kindAbsent
	onKnown  = 1 << kindWellKnown

	onMedia      = onDisk | onDVD
	onEverything = onMedia | onAbsent | onKnown
)

// Recommended time-outs in seconds. Writes that are split up take the longest.
const (
	soon     = 10
	transfer = 30
	slow     = 120
)

// operations is the table, in the order of codes and service actions; init fills
// it, since reporting it is itself an operation.
var (
	operations []operation
	byOpcode   [256][]*operation
)

// op makes an entry from the CDB usage map (SPC-4, 6.35.3), as hex bytes from byte
// 1 on.
func op(opcode uint8, usage string, kinds uint8, a access, seconds uint16, run func(*Command)) operation {
	o := operation{opcode: opcode, kinds: kinds, access: a, seconds: seconds, run: run}
	b, _ := hex.DecodeString(strings.ReplaceAll(usage, " ", "")) // a test decodes them all
	o.usage[0] = opcode
	o.length = uint8(1 + copy(o.usage[1:], b))
	return o
}

// withAction says that byte 1 has a service action, which its usage map repeats.
func (o operation) withAction(action uint8) operation {
	o.service, o.action = true, action
	o.usage[1] |= action
	return o
}

// quietly says that the command reports no unit attentions.
func (o operation) quietly() operation {
	o.flags |= quiet
	return o
}

// discarding says that the command needs a disk that discards.
func (o operation) discarding() operation {
	o.flags |= discards
	return o
}

// supports tells whether the logical unit has an operation.
func (u *unit) supports(o *operation) bool {
	return o.kinds>>u.kind&1 != 0 && (o.flags&discards == 0 || u.info().Discard)
}

// accessOf returns what the command does, for reservations.
func (o *operation) accessOf(cdb *[CDBSize]byte) access {
	switch o.access {
	case accessStart:
		// START=1 with POWER CONDITION 0 is always allowed (SBC-3, table 11).
		if cdb[4]&0xf1 == 1 {
			return accessNone
		}
		return accessWrite
	case accessPrevent:
		if cdb[4]&3 == 0 {
			return accessNone
		}
		return accessWrite
	default:
		return o.access
	}
}

// lookup finds the operation of a CDB. known says that the code alone is
// supported.
func (u *unit) lookup(cdb *[CDBSize]byte) (o *operation, known bool) {
	for _, o := range byOpcode[cdb[0]] {
		if !u.supports(o) {
			continue
		}
		if !o.service || o.action == cdb[1]&saMask {
			return o, true
		}
		known = true
	}
	return nil, known
}
