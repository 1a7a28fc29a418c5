package scsi

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// access is what a command does to a logical unit, for reservations (SPC-4, table
// 65; SBC-3, table 11).
type access uint8

const (
	accessNone    access = iota // always allowed
	accessRead                  // allowed beside a write exclusive reservation
	accessWrite                 // for holders and registrants
	accessStart                 // START STOP UNIT: none or write
	accessPrevent               // PREVENT ALLOW MEDIUM REMOVAL: none or write
)

// reservations are the persistent reservations of a logical unit (SPC-4, 5.13). They
// do not survive power on: APTPL is not supported.
type reservations struct {
	// summary is what commands are checked against, without a lock: the type, the
	// holder from bit 8 on, the set of registered nexuses from bit 32 on.
	summary atomic.Uint64

	mu         sync.Mutex
	generation uint32
	keys       [MaxInitiators]uint64
	registered uint32 // bit set
	kind       uint8  // type of the reservation, 0 for none
	holder     uint8  // meaningful unless all registrants hold it
}

func registrantsOnly(kind uint8) bool {
	return kind == prWriteExclusiveRO || kind == prExclusiveAccessRO
}

func allRegistrants(kind uint8) bool {
	return kind == prWriteExclusiveAR || kind == prExclusiveAccessAR
}

// known tells whether there is such a type.
func knownReservation(kind uint8) bool {
	return kind == prWriteExclusive || kind == prExclusiveAccess || registrantsOnly(kind) || allRegistrants(kind)
}

// conflict tells whether a command meets a reservation that forbids it.
func (r *reservations) conflict(a access, initiator uint8) bool {
	s := r.summary.Load()
	kind := uint8(s)
	if kind == 0 || a == accessNone {
		return false
	}
	switch registered := s>>32>>initiator&1 != 0; {
	case registered && (registrantsOnly(kind) || allRegistrants(kind)):
		return false
	case !allRegistrants(kind) && uint8(s>>8) == initiator:
		return false
	}
	exclusive := kind == prExclusiveAccess || kind == prExclusiveAccessRO || kind == prExclusiveAccessAR
	return exclusive || a == accessWrite
}

// publish makes changes count. Preconditions: locked.
func (r *reservations) publish() {
	r.summary.Store(uint64(r.kind) | uint64(r.holder)<<8 | uint64(r.registered)<<32)
}

// powerOn forgets everything.
func (r *reservations) powerOn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.generation, r.registered, r.kind, r.holder = 0, 0, 0, 0
	clear(r.keys[:])
	r.publish()
}

// holds tells whether a nexus holds the reservation. Preconditions: locked.
func (r *reservations) holds(initiator uint8) bool {
	if allRegistrants(r.kind) {
		return r.isRegistered(initiator)
	}
	return r.kind != 0 && r.holder == initiator
}

func (r *reservations) isRegistered(initiator uint8) bool { return r.registered>>initiator&1 != 0 }

// withKey returns the registered nexuses that have a key. Preconditions: locked.
func (r *reservations) withKey(key uint64) uint32 {
	var set uint32
	for left := r.registered; left != 0; left &= left - 1 {
		i := bits.TrailingZeros32(left)
		if r.keys[i] == key {
			set |= 1 << i
		}
	}
	return set
}

// forget removes registrations. A reservation that then has no holder ends.
// Preconditions: locked.
func (r *reservations) forget(set uint32) {
	r.registered &^= set
	for ; set != 0; set &= set - 1 {
		i := bits.TrailingZeros32(set)
		r.keys[i] = 0
		if r.kind != 0 && !allRegistrants(r.kind) && int(r.holder) == i {
			r.kind = 0
		}
	}
	if r.registered == 0 {
		r.kind = 0
	}
}
