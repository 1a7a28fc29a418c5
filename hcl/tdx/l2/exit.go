package l2

import (
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// Exit is why an L2 was left, in VMX's words (SDM vol. 3, "VM-Exit Information Fields").
type Exit struct {
	// Status is tdx.STATUS_SUCCESS or, without details, another way to come to L1:
	// STATUS_L2_EXIT_HOST_ROUTED_ASYNC, STATUS_L2_EXIT_PENDING_INTERRUPT.
	Status            uint64
	Reason            uint32 // tdx.EXIT_HLT and so on, with EXIT_ENTRY_FAILED
	Qualification     uint64
	GLA               uint64
	GPA               x86.GPA
	Interruption      uint32
	InterruptionError uint32
	IDTVectoring      uint32
	IDTError          uint32
	Instruction       uint32 // instruction information
	Length            uint32 // of the instruction, in bytes
	Extended          uint64 // tdx.EEQ_NONE or tdx.EEQ_PENDING_EPT_VIOLATION
}

// Outputs are L1's registers when TDG.VP.ENTER returns from an L2 (ABI, that leaf). RBX,
// R14 and R15 are 0.
type Outputs struct {
	RAX, RCX, RDX, RSI, RDI, R8, R9, R10, R11, R12, R13 uint64
}

// Exit reads the outputs back, as L1 does.
func (o *Outputs) Exit() Exit {
	return Exit{
		Status: o.RAX & tdx.STATUS_MASK, Reason: uint32(o.RAX), Qualification: o.RCX, GLA: o.RDX, GPA: x86.GPA(o.R8),
		Interruption: uint32(o.R9), InterruptionError: uint32(o.R9 >> tdx.ENTER_R9_ERROR_SHIFT),
		IDTVectoring: uint32(o.R10), IDTError: uint32(o.R10 >> tdx.ENTER_R10_ERROR_SHIFT),
		Instruction: uint32(o.R11), Length: uint32(o.R11 >> tdx.ENTER_R11_LENGTH_SHIFT), Extended: o.R13,
	}
}
