package l2

import "keel/hcl/abi/tdx"

// Event is what L1 has an L2 take when it is entered (SDM vol. 3, "VM-Entry Controls for
// Event Injection").
type Event struct {
	Type     uint8 // tdx.INTERRUPTION_EXTERNAL and so on
	Vector   uint8
	HasError bool
	Error    uint32
	Length   uint32 // of the instruction, for software interrupts and exceptions
}

// EventOf reads an event from the fields in which it is packed: information with the
// valid bit, error code and instruction length. It returns false where there is none.
func EventOf(info, code, length uint64) (Event, bool) {
	if info&tdx.INTERRUPTION_VALID == 0 {
		return Event{}, false
	}
	e := Event{
		Type:     uint8(info & tdx.INTERRUPTION_TYPE_MASK >> tdx.INTERRUPTION_TYPE_SHIFT),
		Vector:   uint8(info & tdx.INTERRUPTION_VECTOR_MASK),
		HasError: info&tdx.INTERRUPTION_ERROR != 0,
		Length:   uint32(length),
	}
	if e.HasError {
		e.Error = uint32(code)
	}
	return e, true
}

// Info packs an event as VMCS_ENTRY_INTERRUPTION has it; the error code and the length
// have fields of their own.
func (e Event) Info() uint64 {
	info := uint64(tdx.INTERRUPTION_VALID) | uint64(e.Type)<<tdx.INTERRUPTION_TYPE_SHIFT&tdx.INTERRUPTION_TYPE_MASK | uint64(e.Vector)
	if e.HasError {
		info |= tdx.INTERRUPTION_ERROR
	}
	return info
}

// errorVectors are the exceptions that push an error code.
const errorVectors = 1<<8 | 1<<10 | 1<<11 | 1<<12 | 1<<13 | 1<<14 | 1<<17 | 1<<21

// WantsError tells whether VM entry delivers an exception of this vector with an error
// code, and with none else; protected is CR0.PE (SDM vol. 3, "VM-Entry Control Fields":
// checks on event injection).
func WantsError(vector uint8, protected bool) bool {
	return protected && vector < 32 && errorVectors>>vector&1 != 0
}
