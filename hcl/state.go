package hcl

// State is all of a VP that travels at an entry and an exit: what a TEE keeps in the
// save area of a VP.
type State struct {
	Registers Registers
	Special   SpecialRegisters
	// CR8 is the guest's task priority, 0 to 15.
	CR8 uint8
	// Event is what the entry delivers; after the exit what was not delivered, because
	// an exit came between.
	Event Event
	// Shadow is set for one instruction behind STI and MOV SS.
	Shadow bool
	// NMIPending is an NMI that comes as soon as it is not masked; NMIMasked is set
	// while the guest handles one.
	NMIPending, NMIMasked bool
	// Window asks for ExitInterruptWindow.
	Window bool
	// Next is, after an exit, the address of the following instruction, or 0.
	Next uint64
	// Whole says that the state changed in other ways than through RunState, or that
	// the guest's translations must be forgotten.
	Whole bool
}

// EventKind says what kind of event is delivered to a guest.
type EventKind uint8

// The kinds of events.
const (
	EventNone EventKind = iota
	EventInterrupt
	EventNMI
	EventException
)

// Event is one event of a guest.
type Event struct {
	Kind    EventKind
	Vector  uint8
	HasCode bool
	Code    uint32
}

// StateRunner is a VP that is loaded anew for each run, and whose exits are as hardware
// has them: nothing of an instruction that exits has been executed.
type StateRunner interface {
	VP
	// RunState is Run with the state that s holds, and stores into it the state that
	// the guest was left in. Port I/O and accesses to MSRs are those of Run, but
	// nothing is to be answered: RIP is at the instruction, and State.Next behind it.
	// RIP and Next are equal where Next is not known. Of those exits string port input is
	// undone, but for zeroes in the memory that it is going to fill; an element of string
	// port output, and a write to where no memory and nothing reserved is, are not. Registers and its like do not know what
	// RunState did.
	RunState(s *State) (Exit, error)
}
