package x86emu

// Outcome is what became of one step.
type Outcome uint8

// The outcomes.
const (
	// Done: the instruction has completed and RIP has advanced.
	Done Outcome = iota
	// Continue: RIP still names the instruction; run it again, here or in the
	// guest. A repeated string instruction has moved on by some elements, or
	// another VP kept changing what a locked operation or a page walk needs.
	Continue
	// Faulted: the exception in Fault is to be injected. Registers and memory
	// are as before, but for completed elements of a string instruction.
	Faulted
	// Unsupported: nothing has changed; Reason and Bytes say why.
	Unsupported
)

// Fault is an exception for the guest (Intel SDM vol. 3 §6.13).
type Fault struct {
	Vector  uint8
	HasCode bool   // whether Code is pushed: not in real mode
	Code    uint32 // error code
	Address uint64 // CR2 of a page fault
}

// Reason tells why a step was refused.
type Reason uint8

// The reasons.
const (
	ReasonNone      Reason = iota
	ReasonOpcode           // the instruction is outside the scope of this package
	ReasonMemory           // an operand or page table lies where the guest may not go
	ReasonFetch            // the instruction lies outside of RAM
	ReasonSplitLock        // a locked operand that no single compare-and-swap covers
	ReasonPorts            // no port space, or no vector registers, were given
	reasonCount
)

// String names the reason.
func (r Reason) String() string {
	names := [reasonCount]string{"none", "opcode", "memory", "fetch", "split lock", "no ports or vectors"}
	if r < reasonCount {
		return names[r]
	}
	return "unknown"
}

// Result describes one step.
type Result struct {
	Outcome Outcome
	Reason  Reason // for Unsupported
	Op      Op     // OpNone when the decoder refused
	// SingleStep asks for #DB with DR6.BS: RFLAGS.TF was set when the
	// instruction, or an iteration of it, began.
	SingleStep bool
	Length     uint8           // bytes of the instruction; valid bytes in Bytes when Unsupported
	Bytes      [maxLength]byte // the bytes of an Unsupported instruction
	Fault      Fault           // for Faulted
}
