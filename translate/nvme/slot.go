package nvme

import (
	"math/bits"
	"time"

	"keel/translate/blk"
	"keel/translate/tap"
)

// slotState is where a command is.
type slotState uint8

const (
	slotFree    slotState = iota
	slotIssued            // the controller may have it, and its memory
	slotDelayed           // waits to be tried again
	slotReaped            // completed; the request is being told
)

// slot is the place of one command. While it is issued, the memory of its request
// belongs to the controller.
type slot struct {
	r          *blk.Request
	n          *Namespace
	command    entry
	state      slotState
	generation uint16 // tells apart commands of one slot

	since            time.Duration // when it was issued (meter.Now)
	tap              *tap.Tap      // who captured it and wants to see its completion, or nil
	retries, replays int
	expire           uint64 // tick at which patience ends, or a delay
	late             bool   // patience has ended once
	cancel           bool   // the request's owner wants it back
	aborts           int    // Abort commands that were sent
	abortAt          uint64 // tick of the next one

	pages uint16 // of the pool
	bytes int    // that go through them
	at    place  // of the request's data
}

// identifiers turns slots into command identifiers and back: the low bits are the
// slot's number, the others its generation.
type identifiers uint

// identifiersOf returns those of n slots.
func identifiersOf(n int) identifiers { return identifiers(bits.Len(uint(n - 1))) }

// number returns the slot that a command identifier names.
func (i identifiers) number(id uint16) int { return int(id & (1<<i - 1)) }

// renew gives the command of a slot another identifier, so that a second
// completion of an earlier one is not taken for its own. FFFFh is never used
// (NVMe figure 104).
func (i identifiers) renew(s *slot, number int) {
	for {
		s.generation++
		id := s.generation<<i | uint16(number)
		if id != 0xffff {
			s.command.identify(id)
			return
		}
	}
}
