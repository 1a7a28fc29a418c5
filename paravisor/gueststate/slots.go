package gueststate

import (
	"errors"
	"fmt"

	"keel/translate/blk"
)

// Condition says what a slot is.
type Condition string

// The conditions of a slot.
const (
	Blank      Condition = "empty"          // zeroes
	Valid      Condition = "valid"          // authenticated and of this VM
	Sealed     Condition = "sealed"         // its header is sound; without a key nothing else can be said
	Damaged    Condition = "damaged"        // it was cut off by a power failure, or changed
	Unreadable Condition = "unreadable"     // the disk reports a medium error
	NoState    Condition = "no state"       // not one of Keel's
	Newer      Condition = "newer format"   // written by a later Keel
	OtherVM    Condition = "of another VM"  // by its header
	OtherKey   Condition = "of another key" // by its header
)

// Slot is what is known of a slot. What follows Condition comes from the header and is
// authentic for a valid slot only.
type Slot struct {
	Name      string    `json:"name"` // A or B
	Condition Condition `json:"condition"`
	Cause     string    `json:"cause,omitempty"` // why it is not valid
	Format    uint32    `json:"format,omitempty"`
	Sequence  uint64    `json:"sequence"`
	Bytes     uint32    `json:"bytes"` // of the content; 0 when nothing was committed yet
	VM        string    `json:"vm,omitempty"`
	Provider  string    `json:"provider,omitempty"` // of the key
}

// finding is a slot as it was read.
type finding struct {
	Slot
	header  header
	content []byte
	err     error // why it is not valid
}

// judge says what a slot is whose header is sound.
type judge func(h *header, slot []byte) ([]byte, Condition, error)

// look reads both slots.
func (d *device) look(j judge) ([slots]finding, error) {
	var found [slots]finding
	for i := range found {
		var err error
		if found[i], err = d.read(uint32(i), j); err != nil {
			return found, err
		}
	}
	if found[0].Condition != Blank || found[1].Condition != Blank {
		return found, nil
	}
	if empty, err := d.zero(); err != nil || empty {
		return found, err
	}
	for i := range found { // something that has zeroes where the headers are
		found[i].Condition, found[i].err = NoState, errNoMagic
		found[i].Cause = errNoMagic.Error()
	}
	return found, nil
}

// read reads a slot. The error is one of the disk as a whole.
func (d *device) read(slot uint32, j judge) (finding, error) {
	f := finding{Slot: Slot{Name: slotName(slot)}}
	b := make([]byte, d.round(headerBytes))
	err := d.transfer(blk.OpRead, int64(slot)*SlotBytes, b)
	if err == nil {
		f.err = f.header.parse(b, slot)
	}
	if err == nil && f.err == nil {
		rest := make([]byte, d.round(headerBytes+int(f.header.length)+tagBytes))
		n := copy(rest, b) // the header that was checked, not what the disk says the second time
		if b = rest; n < len(b) {
			err = d.transfer(blk.OpRead, int64(slot)*SlotBytes+int64(n), b[n:])
		}
	}
	switch {
	case errors.Is(err, blk.ErrMedium):
		f.err = err
	case err != nil:
		return f, fmt.Errorf("%w: %w", ErrDisk, err)
	}
	f.Condition = conditionOf(f.err)
	if h := &f.header; f.err == nil || f.Condition == Newer {
		f.Format, f.Sequence, f.Bytes, f.VM, f.Provider = h.version, h.sequence, h.length, h.vm, h.provider
	}
	if f.err == nil {
		f.content, f.Condition, f.err = j(&f.header, b)
	}
	if f.err != nil {
		f.Cause = f.err.Error()
	}
	return f, nil
}

// conditionOf sorts the errors of read and of header.parse.
func conditionOf(err error) Condition {
	switch {
	case err == nil:
		return Sealed
	case errors.Is(err, blk.ErrMedium):
		return Unreadable
	case errors.Is(err, errBlank):
		return Blank
	case errors.Is(err, errNoMagic):
		return NoState
	case errors.Is(err, ErrNewer):
		return Newer
	}
	return Damaged
}

// outcome is what two slots amount to.
type outcome struct {
	err       error // why they cannot be used
	blank     bool  // both headers are zero
	use       int   // the slot that was committed last
	newest    header
	recovered bool
	spliced   bool
}

// verdict weighs two slots against each other.
func verdict(found [slots]finding) outcome {
	var o outcome
	count := map[Condition]int{}
	for i := range found {
		f := &found[i]
		count[f.Condition]++
		if usable(f.Condition) && (count[Valid]+count[Sealed] == 1 || f.header.sequence > o.newest.sequence) {
			o.use, o.newest = i, f.header
		}
	}
	good := count[Valid] + count[Sealed]
	switch {
	case count[Newer] > 0: // also beside one that could be used: that one is older
		o.err = first(found, Newer)
	case good == slots:
		older := &found[o.use^1].header
		o.spliced = o.newest.sequence != older.sequence+1 || o.newest.parent != older.salt
	case good == 1:
		// Right after prepare one slot is empty, and at no other time.
		o.recovered = count[Blank] == 0 || o.newest.length != 0
	case count[Blank] == slots:
		o.blank = true
	case count[Blank]+count[NoState] == slots:
		o.err = ErrForeign
	case count[OtherVM] > 0:
		o.err = first(found, OtherVM)
	case count[OtherKey] > 0:
		o.err = first(found, OtherKey)
	default:
		o.err = fmt.Errorf("%w: slot %s: %s, slot %s: %s", ErrDamaged, found[0].Name, found[0].Cause, found[1].Name, found[1].Cause)
	}
	return o
}

func usable(c Condition) bool { return c == Valid || c == Sealed }

// first returns the cause of the first slot in a condition.
func first(found [slots]finding, c Condition) error {
	for i := range found {
		if found[i].Condition == c {
			return found[i].err
		}
	}
	return nil
}
