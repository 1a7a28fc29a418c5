// Package handoff is the contract between the outside of the VM and Keel in
// it: the pages that the boot shim hands to the paravisor, the names of the
// channels that the launcher opens, the events that travel over them, and the
// ways in which a run can end.
package handoff

// Outcome says how a run of a guest ended. The launcher turns it into its exit
// status; both are stable.
type Outcome string

// The outcomes of a run.
const (
	OutcomePoweroff         Outcome = "poweroff"          // the guest powered itself off
	OutcomeInternal         Outcome = "internal-error"    // the launcher itself failed
	OutcomeUsage            Outcome = "usage"             // unknown flag, malformed value
	OutcomeBadKernel        Outcome = "bad-kernel"        // guest kernel missing or corrupt
	OutcomeBadInitrd        Outcome = "bad-initrd"        // guest initrd missing or corrupt
	OutcomeBadImage         Outcome = "bad-image"         // paravisor image missing, corrupt, of another architecture
	OutcomeBadConfig        Outcome = "bad-config"        // configuration malformed or refused by policy
	OutcomeHostRefused      Outcome = "host-refused"      // the host or the VM lacks what Keel needs (QEMU, SVM or VMX)
	OutcomeTooLittleMemory  Outcome = "too-little-memory" // less memory than was asked for or needed
	OutcomeBadVPCount       Outcome = "bad-vp-count"      // impossible number of VPs
	OutcomeGuestCrashed     Outcome = "guest-crashed"     // triple fault or an instruction that cannot be run
	OutcomeParavisorCrashed Outcome = "paravisor-crashed" // a defect of Keel
	OutcomeTimeout          Outcome = "timeout"           // --timeout passed
	OutcomeQuit             Outcome = "quit"              // ended by the user or by a signal
	OutcomeVMLost           Outcome = "vm-lost"           // the VM ended without a word
	OutcomeBadDisk          Outcome = "bad-disk"          // disk image missing, locked or malformed
	OutcomeBadState         Outcome = "bad-state"         // TPM state missing, damaged, sealed with another key or of another VM
	OutcomeBadEvidence      Outcome = "bad-evidence"      // evidence of a confidential VM that convinces nobody
	OutcomeStrict           Outcome = "strict"            // strict mode ended the VM over a request to the host
	OutcomeForcedOff        Outcome = "forced-off"        // a client of the diagnostics ended the VM
)

// exitCodes lists the exit status of each outcome.
var exitCodes = map[Outcome]int{
	OutcomePoweroff:         0,
	OutcomeInternal:         1,
	OutcomeUsage:            2,
	OutcomeBadKernel:        3,
	OutcomeBadInitrd:        4,
	OutcomeBadImage:         5,
	OutcomeBadConfig:        6,
	OutcomeHostRefused:      7,
	OutcomeTooLittleMemory:  8,
	OutcomeBadVPCount:       9,
	OutcomeGuestCrashed:     10,
	OutcomeParavisorCrashed: 11,
	OutcomeTimeout:          12,
	OutcomeQuit:             13,
	OutcomeVMLost:           14,
	OutcomeBadDisk:          15,
	OutcomeBadState:         16,
	OutcomeBadEvidence:      17,
	OutcomeStrict:           18,
	OutcomeForcedOff:        19,
}

// ExitCode returns the exit status that stands for the outcome. An outcome
// that is not one of the constants above is an internal error.
func (o Outcome) ExitCode() int {
	if c, ok := exitCodes[o]; ok {
		return c
	}
	return exitCodes[OutcomeInternal]
}

// Failure is an error that ends a run: one line that names the cause and the
// remedy, and the outcome that decides the exit status.
type Failure struct {
	Outcome Outcome
	Cause   string
	Remedy  string
	Err     error // the underlying error, may be nil
}

// Error returns the cause and the remedy as one line.
func (f *Failure) Error() string {
	s := f.Cause
	if f.Err != nil {
		s += ": " + f.Err.Error()
	}
	if f.Remedy != "" {
		s += "; " + f.Remedy
	}
	return s
}

// Unwrap returns the underlying error.
func (f *Failure) Unwrap() error { return f.Err }
