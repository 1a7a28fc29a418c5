package gueststate

import (
	"errors"

	"keel/translate/blk"
)

// Summary is what can be told of a state disk from outside the VM.
type Summary struct {
	Bytes     uint64  `json:"bytes"` // size of the disk
	Slots     [2]Slot `json:"slots"`
	Empty     bool    `json:"empty"`           // all zero: a new TPM will be made
	Use       string  `json:"use,omitempty"`   // the slot that a VM would take
	Recovered bool    `json:"recovered"`       // the other slot is not intact
	Spliced   bool    `json:"spliced"`         // the slots do not follow each other
	Opened    bool    `json:"opened"`          // the slot in use authenticates: there was a key, and it fits
	Content   []byte  `json:"-"`               // of that slot
	Problem   string  `json:"error,omitempty"` // why no VM would start with it
}

// Inspect reads a disk and changes nothing. Without a provider nothing is decrypted, and
// a slot whose header is sound counts as one that could be used. The error, which
// Summary.Problem has too, says why no VM would start with the disk; without a Summary
// the disk could not be read at all.
func Inspect(disk blk.Disk, provider Provider) (*Summary, error) {
	d, err := newDevice(disk)
	if err != nil {
		return nil, failure(err)
	}
	found, err := d.look(func(h *header, slot []byte) ([]byte, Condition, error) {
		if provider == nil {
			return nil, Sealed, nil
		}
		s := sealer{vm: h.vm, provider: provider}
		return s.judge(h, slot)
	})
	if err != nil {
		return nil, failure(err)
	}
	v := verdict(found)
	s := &Summary{Bytes: d.info.Blocks * uint64(d.info.BlockSize), Slots: [2]Slot{found[0].Slot, found[1].Slot}, Empty: v.blank}
	if v.err != nil {
		err := failure(v.err)
		s.Problem = err.Error()
		return s, err
	}
	if !v.blank {
		use := &found[v.use]
		s.Use, s.Recovered, s.Spliced = use.Name, v.recovered, v.spliced
		s.Opened, s.Content = use.Condition == Valid, use.content
	}
	return s, nil
}

// Wipe makes a state disk an empty one, without a key. A disk that holds something else
// is refused with ErrForeign, one that is too small with ErrSize.
func Wipe(disk blk.Disk) error {
	if _, err := Inspect(disk, nil); err != nil && (errors.Is(err, ErrForeign) || errors.Is(err, ErrSize) || errors.Is(err, ErrDisk)) {
		return err
	}
	d, err := newDevice(disk)
	if err == nil && d.info.ReadOnly {
		err = ErrReadOnly
	}
	if err == nil {
		err = d.wipe(0, MinDisk)
	}
	if err == nil {
		err = d.flush()
	}
	if err != nil {
		return failure(err)
	}
	return nil
}
