package gueststate

import (
	"errors"
	"fmt"

	"keel/boot/handoff"
)

// ResetOption is the option of `keel run` that gives the old state up.
const ResetOption = "--tpm-state-reset"

// remedies says what can be done about each cause, the first that fits.
var remedies = []struct {
	cause  error
	remedy string
}{
	{ErrSize, fmt.Sprintf("use a file of at least %d MiB, with blocks of 512 or 4096 bytes", MinDisk>>20)},
	{ErrReadOnly, "make it writable: the TPM cannot work without committing its state"},
	{ErrForeign, fmt.Sprintf("name the right file, or a new one (truncate -s %dM FILE)", MinDisk>>20)},
	{ErrDamaged, "restore a backup, or give the state up with " + ResetOption},
	{ErrVM, "name the file of this VM, or give the state up with " + ResetOption},
	{ErrProvider, "start with keys of that kind, or give the state up with " + ResetOption},
	{ErrKey, "give the key with which it was sealed, or give the state up with " + ResetOption},
	{ErrNewer, "use the Keel that wrote it or a later one, or give the state up with " + ResetOption},
	{ErrDisk, "see that the host can read and write the file and has space left"},
}

// failure makes an error one that ends a run.
func failure(err error) error {
	f := &handoff.Failure{Outcome: handoff.OutcomeBadState, Cause: "TPM state", Err: err}
	for _, r := range remedies {
		if errors.Is(err, r.cause) {
			f.Remedy = r.remedy
			break
		}
	}
	return f
}
