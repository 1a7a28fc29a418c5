package tdxmodule

import (
	"keel/hcl/abi/tdx"
	"keel/hcl/tdx/l2"
)

// Event returns the event that an L2 takes at its next entry. Preconditions: the VM
// exists.
func (v *VP) Event(vm int) (l2.Event, bool) {
	return l2.EventOf(v.get(vm, tdx.VMCS_ENTRY_INTERRUPTION), v.get(vm, tdx.VMCS_ENTRY_ERROR_CODE), v.get(vm, tdx.VMCS_ENTRY_LENGTH))
}

// injectable tells whether VM entry accepts an event (SDM vol. 3, "VM-Entry Control
// Fields": checks on event injection). protected is CR0.PE.
func injectable(e *l2.Event, protected bool) bool {
	wantsError := e.Type == tdx.INTERRUPTION_EXCEPTION && l2.WantsError(e.Vector, protected)
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
