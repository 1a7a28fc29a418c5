// Package front is what the register interfaces of the TPM have in common: which
// locality holds the TPM, and the one command that is under way for it.
//
// Specification: TCG PC Client Platform TPM Profile (PTP) 1.05, chapters on locality and
// on the FIFO and CRB interfaces.
package front

import (
	"math/bits"

	"keel/vtpm"
)

// LocalityHardware is the locality of the D-RTM: the CPU itself speaks there, in cycles
// that no instruction makes, with TPM_HASH_START, _DATA and _END. A chipset keeps
// software out of its page, and so do the devices: reads see no device, writes vanish.
const LocalityHardware = 4

// PageSize is the distance between the register pages of two localities in bytes.
const PageSize = 0x1000

// WindowSize is the length of the register window in bytes, all localities.
const WindowSize = vtpm.Localities * PageSize

// Arbiter knows which locality holds the TPM and which ones want it. The zero value is
// that of a TPM after reset. The lock of the device that owns it guards it.
type Arbiter struct {
	held    bool
	holder  uint8
	waiting uint8 // a bit a locality
	seized  uint8 // localities that lost the TPM to a higher one and were not told yet
}

// Holder returns the locality that holds the TPM; ok is false when none does.
func (a *Arbiter) Holder() (locality uint8, ok bool) { return a.holder, a.held }

// Holds tells whether a locality holds the TPM.
func (a *Arbiter) Holds(locality uint8) bool { return a.held && a.holder == locality }

// Waits tells whether a locality has asked for the TPM and does not hold it.
func (a *Arbiter) Waits(locality uint8) bool { return a.waiting>>locality&1 != 0 }

// OthersWait tells whether any other locality waits.
func (a *Arbiter) OthersWait(locality uint8) bool { return a.waiting&^(1<<locality) != 0 }

// WasSeized tells whether the TPM was taken from a locality.
func (a *Arbiter) WasSeized(locality uint8) bool { return a.seized>>locality&1 != 0 }

// ForgetSeizure clears what WasSeized tells.
func (a *Arbiter) ForgetSeizure(locality uint8) { a.seized &^= 1 << locality }

// Request grants a free TPM; else the locality waits until it is released.
func (a *Arbiter) Request(locality uint8) {
	switch {
	case !a.held:
		a.grant(locality)
	case a.holder != locality:
		a.waiting |= 1 << locality
	}
}

// Release gives up the TPM, which the highest locality that waits gets. Of a locality
// that does not hold the TPM it withdraws the request. It returns whether the holder
// changed.
func (a *Arbiter) Release(locality uint8) bool {
	if !a.Holds(locality) {
		a.waiting &^= 1 << locality
		return false
	}
	a.held = false
	if a.waiting != 0 {
		a.grant(uint8(bits.Len8(a.waiting) - 1))
	}
	return true
}

// Seize takes the TPM away from a lower locality, or takes a free one. It returns
// whether the holder changed; a locality that is not higher changes nothing.
func (a *Arbiter) Seize(locality uint8) bool {
	if a.held {
		if a.holder >= locality {
			return false
		}
		a.seized |= 1 << a.holder
	}
	a.grant(locality)
	return true
}

func (a *Arbiter) grant(locality uint8) {
	a.held, a.holder = true, locality
	a.waiting &^= 1 << locality
}
