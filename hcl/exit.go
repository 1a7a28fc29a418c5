package hcl

import "keel/hcl/abi/x86"

// ExitKind says why a VP left the guest.
type ExitKind uint8

// The exits.
const (
	ExitKick            ExitKind = iota // kicked, or interrupted by a deadline
	ExitPIO                             // port I/O: Port, Size, Write, Data
	ExitMMIO                            // access to memory that is not RAM: GPA, Write, Data
	ExitMSRRead                         // RDMSR that Keel answers: MSR
	ExitMSRWrite                        // WRMSR that Keel answers: MSR, Value
	ExitHalt                            // HLT; RIP is after it
	ExitInterruptWindow                 // the guest takes interrupts now
	ExitTPR                             // the guest lowered its task priority through CR8
	ExitShutdown                        // triple fault
	ExitEmulationFailed                 // an instruction that cannot be run, such as code outside of RAM
	ExitMemoryFault                     // access that the backend's page attributes forbid: GPA
	ExitDebug                           // one instruction was executed, as Debugger.Step wants it
	ExitKinds                           // how many kinds there are
)

// String returns the name under which the exit is counted.
func (k ExitKind) String() string {
	if int(k) < len(exitNames) {
		return exitNames[k]
	}
	return "unknown"
}

var exitNames = [ExitKinds]string{
	ExitKick:            "kick",
	ExitPIO:             "pio",
	ExitMMIO:            "mmio",
	ExitMSRRead:         "msr-read",
	ExitMSRWrite:        "msr-write",
	ExitHalt:            "halt",
	ExitInterruptWindow: "interrupt-window",
	ExitTPR:             "tpr",
	ExitShutdown:        "shutdown",
	ExitEmulationFailed: "emulation-failed",
	ExitMemoryFault:     "memory-fault",
	ExitDebug:           "debug",
}

// Exit is what Run returns. Which fields are set depends on Kind.
type Exit struct {
	Kind  ExitKind
	Write bool // PIO, MMIO: the guest writes
	Size  uint8
	Port  uint16
	MSR   uint32
	GPA   x86.GPA
	// RIP is where the guest left: at its instruction, or after one that the
	// exit completes. It is 0 when unknown, and after ExitShutdown it may be
	// where the substrate has reset the VP to.
	RIP   uint64
	Value uint64 // MSRWrite: the value; EmulationFailed: the backend's reason
	// Data is what the guest writes, or the buffer for what it reads. It lies
	// in memory that the guest cannot reach and is valid until the next Run.
	// String port I/O moves several units of Size at once.
	Data []byte
}
