package tdxmodule

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

// Event returns the event that an L2 takes at its next entry. Preconditions: the VM
// exists.
func (v *VP) Event(vm int) (Event, bool) {
	info := v.get(vm, tdx.VMCS_ENTRY_INTERRUPTION)
	if info&tdx.INTERRUPTION_VALID == 0 {
		return Event{}, false
	}
	e := Event{
		Type:     uint8(info & tdx.INTERRUPTION_TYPE_MASK >> tdx.INTERRUPTION_TYPE_SHIFT),
		Vector:   uint8(info & tdx.INTERRUPTION_VECTOR_MASK),
		HasError: info&tdx.INTERRUPTION_ERROR != 0,
		Length:   uint32(v.get(vm, tdx.VMCS_ENTRY_LENGTH)),
	}
	if e.HasError {
		e.Error = uint32(v.get(vm, tdx.VMCS_ENTRY_ERROR_CODE))
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

// injectable tells whether VM entry accepts an event (SDM vol. 3, "VM-Entry Control
// Fields": checks on event injection). protected is CR0.PE.
func (e Event) injectable(protected bool) bool {
	wantsError := e.Type == tdx.INTERRUPTION_EXCEPTION && protected && e.Vector < 32 && errorVectors>>e.Vector&1 != 0
	switch {
	case e.HasError != wantsError || e.HasError && e.Error>>16 != 0:
		return false
	case e.Type == 1 || e.Type == tdx.INTERRUPTION_OTHER: // a pending MTF exit is not offered
		return false
	case e.Type == tdx.INTERRUPTION_NMI:
		return e.Vector == tdx.VECTOR_NMI
	case e.Type == tdx.INTERRUPTION_EXCEPTION:
		return e.Vector < 32
	case e.Type == tdx.INTERRUPTION_EXTERNAL:
		return true
	}
	return e.Length <= 15
}
