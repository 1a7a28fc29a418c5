package scsi

import "math/bits"

// Unit attention conditions that wait for a nexus, one bit each; the lowest is
// reported first (SAM-5, 5.14).
const (
	attentionPowerOn = 1 << iota
	attentionReset
	attentionNexusLoss
	attentionMedium
	attentionLUNs
	attentionCapacity
	attentionModes
	attentionReservationsPreempted
	attentionReservationsReleased
	attentionRegistrationsPreempted
	attentionCleared
)

// attentionCodes are their additional sense codes, in the same order.
var attentionCodes = [...]uint16{
	ascPowerOn, ascDeviceReset, ascNexusLoss, ascMediumChanged, ascLUNsChanged, ascCapacityChanged, ascModeChanged,
	ascReservationsCleared, ascReservationReleased, ascRegistrationsLost, ascCommandsCleared,
}

// attend sets a condition for one nexus.
func (u *unit) attend(initiator uint8, condition uint32) {
	u.attentions[initiator].Or(condition)
}

// attendOthers sets a condition for all nexuses but one; -1 spares none.
func (u *unit) attendOthers(but int, condition uint32) {
	for i := range u.attentions {
		if i != but {
			u.attentions[i].Or(condition)
		}
	}
}

// attendSet sets a condition for the nexuses of a bit set.
func (u *unit) attendSet(set, condition uint32) {
	for ; set != 0; set &= set - 1 {
		u.attentions[bits.TrailingZeros32(set)].Or(condition)
	}
}

// takeAttention reports a nexus's first condition and clears it. REPORTED LUNS
// DATA HAS CHANGED is cleared for the other logical units too (LUICLR of the
// extended INQUIRY page).
func (u *unit) takeAttention(initiator uint8) (sense, bool) {
	a := &u.attentions[initiator]
	for {
		old := a.Load()
		if old == 0 {
			return sense{}, false
		}
		if !a.CompareAndSwap(old, old&(old-1)) {
			continue
		}
		n := bits.TrailingZeros32(old)
		if 1<<n == attentionLUNs {
			u.ctl.clearLUNs(initiator)
		}
		return sense{key: keyUnitAttention, code: attentionCodes[n]}, true
	}
}

// clearLUNs forgets REPORTED LUNS DATA HAS CHANGED.
func (ct *Controller) clearLUNs(initiator uint8) {
	for u := range ct.each() {
		u.attentions[initiator].And(^uint32(attentionLUNs))
	}
}
