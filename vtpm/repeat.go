package vtpm

import (
	"encoding/binary"
	"fmt"

	"keel/vtpm/wire"
)

// Saving the volatile state takes longer than extending a PCR does. So the worker keeps
// it to itself after such a command, and the next worker gets the state before, and the
// command again.

// repeat is a command that a new worker executes once more.
type repeat struct {
	locality uint8
	command  []byte
}

// Bounds of what is repeated.
const (
	maxRepeats    = 64
	maxRepeatSize = 512 // bytes of a command: five banks and a password have room
)

// repeatable tells whether a command that succeeds does the same to the same volatile
// state each time, so that it may stand for the state behind it: a PCR_Extend with a
// password and no session.
func (t *TPM) repeatable(command []byte) bool {
	const area = headerSize + 4 // of the authorizations, behind the PCR
	return len(t.repeats) < maxRepeats && len(command) <= maxRepeatSize && len(command) > area &&
		code(command) == ccPCRExtend && binary.BigEndian.Uint16(command) == tagSessions && passwordAlone(command[area:])
}

// repeat brings a worker with the volatile state to where the TPM was.
//
// Preconditions: the caller has the turn.
func (t *TPM) repeat() error {
	pending := t.repeats
	for i, c := range pending {
		t.seq++
		r, err := t.exchange(&wire.Frame{Kind: wire.Execute, Seq: t.seq, Locality: c.locality, Body: c.command, Effect: wire.Repeats})
		if err == nil && (r.Status != wire.OK || ResponseCode(r.Body) != nil) {
			err = fmt.Errorf("%w: it does not repeat command %d of %d: status %d, %w", ErrWorker, i+1, len(pending), r.Status, ResponseCode(r.Body))
		}
		if err != nil {
			t.lose(err)
			return err
		}
		if err := t.keep(&r); err != nil {
			t.drop(nil)
			return err
		}
		if len(r.Volatile) > 0 {
			t.repeats = pending[i+1:]
		}
	}
	return nil
}
