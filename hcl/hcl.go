// Package hcl is the boundary between Keel and what runs the guest: nested
// KVM, a TEE's privileged interface, or Hyper-V. A backend offers a Partition
// with its VPs; Keel above it never learns which one it is.
package hcl

import (
	"errors"

	"keel/hcl/abi/x86"
)

// ErrNotSupported says that the machine lacks what a backend needs. Tests may
// skip on it, and on nothing else.
var ErrNotSupported = errors.New("not supported by this machine")

// Partition is one guest: its physical memory and its VPs.
type Partition interface {
	// MapMemory makes host memory the guest's RAM from gpa on. The memory is
	// a mapping that stays where it is until Close. gpa and length are
	// multiples of the page size.
	MapMemory(gpa x86.GPA, memory []byte) error
	// NewVP makes a virtual processor, in power-on state. It must be called on
	// the thread that will run the VP.
	NewVP(config VPConfig) (VP, error)
	// TSCHz is the frequency of the guest's time stamp counter.
	TSCHz() uint64
	// SupportedCPUID lists what the substrate can give a guest. A policy above
	// decides what the guest sees.
	SupportedCPUID() ([]CPUIDEntry, error)
	// Close ends the partition and frees its VPs. None may be inside Run.
	Close() error
}

// Accepter is a partition whose memory belongs to the guest only once it was accepted.
// Keel must not touch a page before; the guest's own first use of one accepts it.
type Accepter interface {
	// Accept accepts what is not accepted yet of a range of whole pages of RAM. Any
	// goroutine may call it.
	Accept(gpa x86.GPA, length uint64) error
}

// VPConfig says what is fixed when a VP is made.
type VPConfig struct {
	Index  int // 0 is the bootstrap processor
	APICID x86.APICID
	CPUID  []CPUIDEntry
}

// CPUIDEntry is one leaf, or one subleaf where Indexed is set, of the CPUID
// instruction.
type CPUIDEntry struct {
	Leaf, Subleaf      uint32
	Indexed            bool
	EAX, EBX, ECX, EDX uint32
}

// VP is a virtual processor. Except for Kick, its methods belong to the thread
// that made it.
type VP interface {
	// Run enters the guest and returns with the reason why it was left. The
	// error means that the substrate broke, never that the guest misbehaved.
	// It returns ExitKick also when Go's runtime wants the thread: a guest that
	// never leaves by itself must not hold up the collector.
	// Exits that ask for data are answered by filling Exit.Data, or by
	// CompleteMSR, before the next Run.
	Run() (Exit, error)
	// Kick makes Run return ExitKick, now or at its next call. It may be
	// called from any thread.
	Kick()
	// CompleteMSR answers ExitMSRRead or ExitMSRWrite: the value read, or
	// fault to raise #GP in the guest.
	CompleteMSR(value uint64, fault bool)

	// CanInject reports whether the guest would take an external interrupt at
	// the next entry (IF set, no interrupt shadow, nothing else pending).
	CanInject() bool
	// InterruptFlag reports RFLAGS.IF as of the last exit.
	InterruptFlag() bool
	// Inject queues an external interrupt for the next entry.
	// Preconditions: CanInject.
	Inject(vector uint8) error
	// InjectNMI queues a non-maskable interrupt.
	InjectNMI() error
	// InjectException queues an exception for the next entry, with an error code if it
	// has one, as though the instruction at RIP had raised it. CR2 is the caller's.
	InjectException(vector uint8, code uint32, hasCode bool) error
	// RequestInterruptWindow asks for ExitInterruptWindow as soon as CanInject
	// becomes true.
	RequestInterruptWindow(on bool)
	// CR8 is the guest's task priority as of the last exit, 0 to 15.
	CR8() uint8
	// SetCR8 sets the task priority for the next entry.
	SetCR8(v uint8)

	// Registers and SpecialRegisters read the VP's state; the Set calls change
	// it for the next entry.
	Registers() (Registers, error)
	SetRegisters(r *Registers) error
	SpecialRegisters() (SpecialRegisters, error)
	SetSpecialRegisters(r *SpecialRegisters) error
	// SetMSR writes a model-specific register that the substrate keeps.
	SetMSR(index uint32, value uint64) error
	// TSC reads the guest's time stamp counter.
	TSC() uint64
	// Reset puts the VP back into the state in which NewVP left it.
	Reset() error
}
