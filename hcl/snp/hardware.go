// Package snp runs the guest at VMPL2 of an SEV-SNP VM whose VMPL0 is Keel. The guest
// need not know: its memory is private below the virtual TOM whatever its page tables
// say (§15.36.8), what it cannot do itself reaches Keel as a reflected #VC (§15.36.9),
// and its interrupts come from Keel alone (alternate injection, §15.36.16).
//
// The instructions of SNP, and what its kernel must do for Keel, stand behind Hardware.
// hcl/emutee is one that needs no TEE.
//
// Specifications: AMD64 Architecture Programmer's Manual (APM) vol. 2, whose sections
// are named here, and vol. 3 on PVALIDATE and RMPADJUST.
package snp

import (
	"errors"

	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
	"keel/hcl/private"
)

// Stage sentinels.
var (
	ErrOpen   = errors.New("opening SNP")
	ErrMemory = private.ErrMemory
	ErrVP     = errors.New("VP of SNP")
	ErrRun    = errors.New("running a VP of SNP")
	// ErrHost says that the host took a page away, or gave another one for it. The
	// guest cannot go on.
	ErrHost = private.ErrHost
)

// VMPL is the privilege level of the guest.
const VMPL = snp.VMPL2

// Hardware is what this backend needs of the machine. Sizes of pages are
// snp.RMP_PG_SIZE_4K and snp.RMP_PG_SIZE_2M, codes are snp.RMP_SUCCESS and so on. VPs
// are known by their index in hcl.VPConfig; their methods, but for Kick, belong to the
// thread of NewVP.
type Hardware interface {
	Pages
	Processors
	Close() error
}

// Pages is what concerns memory. Errors are faults of an instruction, which the host
// has caused.
type Pages interface {
	// PValidate executes PVALIDATE. unchanged is the carry flag.
	PValidate(gpa x86.GPA, size uint8, validate bool) (code uint32, unchanged bool, err error)
	// RMPAdjust executes RMPADJUST; vmsa makes the page a VMSA.
	RMPAdjust(gpa x86.GPA, size, vmpl, permissions uint8, vmsa bool) (code uint32, err error)
	// PageState asks the host to make a page private or shared.
	PageState(gpa x86.GPA, size uint8, private bool) error
	// MapMemory says that memory is Keel's mapping of what lies at gpa.
	MapMemory(gpa x86.GPA, memory []byte) error
	// Reserve says that a range belongs to an emulated device. Where nested page
	// tables mark all that is no memory, there is nothing to do.
	Reserve(gpa x86.GPA, length uint64) error
	// NewPage returns a private page of Keel's own, validated and zero, that no other
	// VMPL may use.
	NewPage() (gpa x86.GPA, page []byte, err error)
}

// Processors is what concerns VPs.
type Processors interface {
	// NewVP makes a VP of the calling thread that runs from a VMSA.
	NewVP(config hcl.VPConfig, vmsa x86.GPA) error
	// Run runs the VP until it leaves to Keel. The error says that it cannot be run.
	// It returns, with EXIT_INTR, also when Go's runtime wants the thread.
	Run(vp int) error
	// Kick makes Run return, now or at its next call, with EXIT_INTR. Any thread may
	// call it.
	Kick(vp int)
	// TSC is the VP's time stamp counter, and TSCHz its frequency.
	TSC(vp int) uint64
	TSCHz() uint64
	// SetMSR writes a model-specific register that is not in the VMSA.
	SetMSR(vp int, index uint32, value uint64) error
	// SupportedCPUID lists what a guest can be given.
	SupportedCPUID() ([]hcl.CPUIDEntry, error)
}
