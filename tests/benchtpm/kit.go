package main

import (
	"context"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"keel/tests/benchtpm/command"
)

// The sides of the comparison, and how many there are.
const (
	worker = iota
	swtpm
	sides
)

// sideNames say them to people.
var sideNames = [sides]string{"worker", "swtpm"}

// tpm is one side.
type tpm interface {
	transport.TPM
	// Reset takes the power away and gives it back.
	Reset(ctx context.Context) error
	// Pid returns the process ID of whoever runs commands.
	Pid() int
	Close()
}

// powerOn does what firmware does with a TPM that has power. What the self-test leaves
// out, the first command of its kind would have to do.
func powerOn(t transport.TPM) error {
	if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUClear}).Execute(t); err != nil {
		return fmt.Errorf("%w: Startup: %w", command.Err, err)
	}
	k := command.Kit{TPM: t}
	if err := k.Send(command.SelfTest); err != nil {
		return fmt.Errorf("SelfTest: %w", err)
	}
	return nil
}

// powerOff shuts a TPM down and gives it power anew.
func powerOff(ctx context.Context, t tpm) error {
	if _, err := (tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}).Execute(t); err != nil {
		return fmt.Errorf("%w: Shutdown: %w", command.Err, err)
	}
	return t.Reset(ctx)
}
