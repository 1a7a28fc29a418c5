package nvme

import (
	"encoding/binary"
	"time"

	"keel/translate/tap"
)

// Capture gives the commands of the I/O queues to a tap from now on, or to none. Each time
// that a command is submitted counts as one. There is no data with them.
func (c *Controller) Capture(t *tap.Tap) { c.tap.Store(t) }

// captureStart gives a command that is submitted to the slot's tap.
func (q *queue) captureStart(s *slot) {
	r := tap.Record{Kind: tap.NVMeCommand, Length: entrySize, Queue: uint16(q.ring.id), Time: s.since}
	copy(r.Bytes[:], s.command[:])
	if !s.tap.Command(&r, nil) {
		s.tap = nil
	}
}

// captureEnd gives a completion to the tap that has the command.
func (q *queue) captureEnd(s *slot, e *completion, now time.Duration) {
	r := tap.Record{Kind: tap.NVMeCompletion, Length: resultSize, Queue: uint16(q.ring.id), Time: now}
	for i, word := range [...]uint32{e.result, 0, uint32(e.queue)<<16 | uint32(e.head), uint32(e.status)<<17 | uint32(e.id)} {
		binary.LittleEndian.PutUint32(r.Bytes[4*i:], word)
	}
	s.tap.End(&r, nil, 0)
}
