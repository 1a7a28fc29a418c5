// Package tdx runs the guest as the nested VM (L2) 1 of a trust domain whose first level
// (L1) is Keel. The guest need not know: its memory is private, what it cannot do itself
// leaves to Keel, and its interrupts come from Keel alone.
//
// TDCALL, and what its kernel must do for Keel, stand behind Hardware. The machine of
// hcl/emutee/tdxmodule is one that needs no TEE.
//
// Specifications: Intel TDX Module 1.5 ABI (348551), cited as ABI; Base Architecture
// (348549) and TD Partitioning Architecture (354807); Guest-Host Communication Interface
// (344426); Intel SDM vol. 3.
package tdx

import (
	"errors"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/hcl/private"
	"keel/hcl/tdx/l2"
)

// Stage sentinels.
var (
	ErrOpen   = errors.New("opening TDX")
	ErrMemory = private.ErrMemory
	ErrVP     = errors.New("VP of TDX")
	ErrRun    = errors.New("running a VP of TDX")
	// ErrHost says that the host took a page away, or gave another one for it. The
	// guest cannot go on.
	ErrHost = private.ErrHost
)

// VM is the number of the guest among the VMs of the TD.
const VM = 1

// Hardware is what this backend needs of the machine. VPs are known by their index in
// hcl.VPConfig; their methods, but for Kick, belong to the thread of NewVP.
type Hardware interface {
	Pages
	Processors
	Close() error
}

// Pages is what concerns memory.
type Pages interface {
	// Call executes TDCALL with a leaf of TDG.MEM or TDG.VM, on any thread. Where the
	// host must add a page or split one, it waits for that. The error says that the call
	// came to no end.
	Call(r *l2.Registers) error
	// MapGPA asks the host to make a range private or shared (GHCI,
	// "TDG.VP.VMCALL<MapGPA>").
	MapGPA(gpa x86.GPA, length uint64, private bool) error
	// MapMemory says that memory is Keel's mapping of what lies at gpa.
	MapMemory(gpa x86.GPA, memory []byte) error
	// Reserve says that a range belongs to an emulated device. Where the host sends all
	// that is no memory back to L1, there is nothing to do.
	Reserve(gpa x86.GPA, length uint64) error
	// NewPage returns a private page of Keel's own, accepted and zero, that no L2 may
	// use.
	NewPage() (gpa x86.GPA, page []byte, err error)
}

// Processors is what concerns VPs.
type Processors interface {
	// NewVP makes a VP of the calling thread.
	NewVP(config hcl.VPConfig) error
	// CallVP executes TDCALL with a leaf of TDG.VP other than TDG.VP.ENTER.
	CallVP(vp int, r *l2.Registers) error
	// Run executes TDG.VP.ENTER between a load and a store of the context. It returns
	// with the L2's exit in r, and also when Go's runtime wants the thread. The error
	// says that the VP cannot be run.
	Run(vp int, r *l2.Registers, c *l2.Context) error
	// Reset puts the registers that nothing here holds into their state after power-on:
	// x87, SSE and AVX.
	Reset(vp int) error
	// Kick makes Run return, now or at its next call, with
	// tdx.STATUS_L2_EXIT_PENDING_INTERRUPT or tdx.STATUS_PENDING_INTERRUPT. Any thread
	// may call it.
	Kick(vp int)
	// TSC is the VP's time stamp counter, and TSCHz its frequency.
	TSC(vp int) uint64
	TSCHz() uint64
	// SetMSR writes a model-specific register that is neither in the VMCS nor in the
	// context.
	SetMSR(vp int, index uint32, value uint64) error
	// SupportedCPUID lists what a guest can be given.
	SupportedCPUID() ([]hcl.CPUIDEntry, error)
}
