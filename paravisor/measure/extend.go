package measure

import (
	"errors"
	"fmt"

	"keel/vtpm/eventlog"
	"keel/vtpm/identity"
)

// ErrExtend reports a TPM into which the boot could not be measured. The guest must not
// be started then: its PCRs would tell of less than there is.
var ErrExtend = errors.New("measured boot: extending the TPM")

// Result is a measured boot.
type Result struct {
	Log []byte // what goes to the start of the log area
	// Dropped counts events that had no room in the log. They are in the PCRs all the
	// same, which the log then does not explain.
	Dropped int
}

// Extend extends events into every active bank of the TPM and returns the log for an
// area of size bytes, such as eventlog.AreaSize. The events must have digests for the
// banks that are active now.
//
// Preconditions: TPM2_Startup(CLEAR) was sent and nothing was extended yet. The guest
// does not run.
func Extend(tpm identity.TPM, size int, events []eventlog.Event) (Result, error) {
	tpm = identity.Resend(tpm)
	banks, err := identity.Banks(tpm)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrExtend, err)
	}
	log, err := eventlog.New(size, banks)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrExtend, err)
	}
	for _, e := range events {
		// Append checks that the digests are those of the active banks; a missing one would
		// leave a bank unextended.
		if err := log.Append(e); err != nil && !errors.Is(err, eventlog.ErrFull) {
			return Result{}, fmt.Errorf("%w: %w", ErrExtend, err)
		}
		if err := identity.Extend(tpm, e.PCR, e.Digests); err != nil {
			return Result{}, fmt.Errorf("%w: PCR %d: %w", ErrExtend, e.PCR, err)
		}
	}
	return Result{Log: log.Bytes(), Dropped: log.Dropped()}, nil
}
