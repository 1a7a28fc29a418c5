package hcl

// Debugger is a VP that can be looked into more closely, and whose instructions can be
// taken one by one. A backend for guests that are confidential does not offer it. Its
// methods belong to the VP's thread.
type Debugger interface {
	VP
	// Step makes Run return ExitDebug after the next instruction, or ends that.
	// Preconditions: the registers are those with which the VP goes on.
	Step(on bool) error
	// MSR reads a model-specific register that the substrate keeps.
	MSR(index uint32) (uint64, error)
}
