// Package config reads the configuration that the host passes to the
// paravisor and bounds it by the policy measured into the image.
//
// The host writes protobuf as JSON (configpb/config.proto) with Marshal; the
// paravisor reads it with Parse, which trusts nothing: the size is bounded,
// unknown and repeated fields are refused by name, every value is checked, and
// every error is a *handoff.Failure that names cause and remedy in one line.
package config

//go:generate go run ../../boot/cmd/genpb configpb

import (
	"fmt"
	"log/slog"
	"slices"

	"keel/boot/handoff"
)

// MaxSize bounds the configuration as it travels, in bytes.
const MaxSize = 64 << 10

// Limits that no policy widens.
const (
	MaxVPs         = 16
	MinMemory      = 64 << 20 // bytes
	MaxMemory      = 64 << 30 // bytes
	MemoryGranule  = 2 << 20  // bytes; guest memory is mapped with large pages
	MaxCommandLine = 2047     // bytes; COMMAND_LINE_SIZE of Linux on x86 less its NUL
	MaxGuestName   = 64       // bytes
	MaxKernelSize  = 1 << 30  // bytes
	MaxInitrdSize  = 4 << 30  // bytes
	MaxDisks       = 64       // of one front, which has as many logical units
	MaxStripe      = 8        // members of a stripe
	MaxSerial      = 20       // bytes; NVMe 1.4 figure 247, SN
	MinChunk       = 4 << 10  // bytes
	MaxChunk       = 16 << 20 // bytes
	KeySize        = 32       // bytes
	DigestSize     = 48       // bytes; SNP's launch digest and TDX's MRTD
)

// Config is a configuration that has been checked.
type Config struct {
	GuestName   string
	VPs         int
	Memory      uint64 // guest RAM in bytes
	CommandLine string
	KernelSize  uint64 // bytes
	HasInitrd   bool
	InitrdSize  uint64 // bytes, 0 without an initrd
	LogLevel    slog.Level
	LogJSON     bool
	Console     Console
	TraceExits  bool // log every guest exit
	Disks       []Disk
	TPM         *TPM // nil: the guest has none
	Isolation   Isolation
	// LaunchDigest is what an emulated TEE takes for the measurement of the image,
	// DigestSize bytes with isolation.
	LaunchDigest []byte
	Oracle       bool // with isolation: KVM runs what Keel executes once more, and both are compared
	Strict       Strict
}

// Isolation is what keeps the guest's memory from the host.
type Isolation int

// The kinds of isolation.
const (
	IsolationNone Isolation = iota
	IsolationSNP            // AMD SEV-SNP, the guest at VMPL2
	IsolationTDX            // Intel TDX, the guest as L2 of a partitioned TD
)

// String returns the name that options use.
func (i Isolation) String() string {
	switch i {
	case IsolationNone:
		return "none"
	case IsolationSNP:
		return "snp"
	case IsolationTDX:
		return "tdx"
	}
	return "unknown"
}

// ParseIsolation is the inverse of String. The error is a *handoff.Failure.
func ParseIsolation(s string) (Isolation, error) {
	for _, i := range []Isolation{IsolationNone, IsolationSNP, IsolationTDX} {
		if s == i.String() {
			return i, nil
		}
	}
	return 0, &handoff.Failure{
		Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("unknown isolation %q", s), Remedy: "use none, snp or tdx",
	}
}

// TPM is the guest's TPM 2.0.
type TPM struct {
	Interface TPMInterface
	// StateSerial is the serial number of the NVMe controller that keeps the state.
	// Empty: the TPM is new at every power-on.
	StateSerial string
	Seal        Seal   // what seals the state; SealNone without a controller
	Key         []byte // KeySize bytes with SealHostKey
	KeyServer   []byte // Ed25519 public key of KeySize bytes with SealReleased
	Reset       bool   // give up the state that there is
}

// Seal is whose key seals the TPM's state.
type Seal int

// The policies. What the host could read comes first.
const (
	SealNone     Seal = iota // there is no state
	SealHostKey              // the host's, in the configuration
	SealHardware             // one that the TEE derives for this image
	SealReleased             // one that a key server releases against evidence
)

// String returns the name that options use.
func (s Seal) String() string {
	switch s {
	case SealNone:
		return "none"
	case SealHostKey:
		return "host-key"
	case SealHardware:
		return "hardware"
	case SealReleased:
		return "released"
	}
	return "unknown"
}

// TPMInterface is how the guest talks to its TPM.
type TPMInterface int

// The interfaces (TCG PC Client Platform TPM Profile 1.05).
const (
	TPMCRB TPMInterface = iota // command response buffer
	TPMTIS                     // FIFO, once called TIS
)

// String returns the name that options use.
func (i TPMInterface) String() string {
	switch i {
	case TPMCRB:
		return "crb"
	case TPMTIS:
		return "tis"
	}
	return "unknown"
}

// Disk is one logical unit of the guest.
type Disk struct {
	Serials  []string // of the NVMe controllers; several make a stripe
	Front    Front
	LUN      int
	ReadOnly bool
	DVD      bool
	Chunk    uint32 // bytes; of a stripe
}

// Front says what a disk looks like to the guest.
type Front int

// The fronts.
const (
	FrontVirtioSCSI Front = iota // virtio 1.2 SCSI host device
	FrontStorVSC                 // Hyper-V's synthetic SCSI controller

	Fronts // how many there are
)

// String returns the name that messages and options use.
func (f Front) String() string {
	switch f {
	case FrontVirtioSCSI:
		return "virtio-scsi"
	case FrontStorVSC:
		return "storvsc"
	case Fronts:
	}
	return "unknown"
}

// Has tells whether a disk has that front.
func (c *Config) Has(f Front) bool {
	return slices.ContainsFunc(c.Disks, func(d Disk) bool { return d.Front == f })
}

// Console says what the host may do with the guest's console.
type Console int

// The ways of a console, from the widest to the narrowest.
const (
	ConsoleBothWays   Console = iota // the host reads and types
	ConsoleOutputOnly                // what the host types is dropped
	ConsoleOff                       // nothing travels
)

// String returns the name that messages use.
func (c Console) String() string {
	switch c {
	case ConsoleBothWays:
		return "both ways"
	case ConsoleOutputOnly:
		return "output only"
	case ConsoleOff:
		return "off"
	}
	return "unknown"
}
