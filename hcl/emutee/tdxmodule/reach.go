package tdxmodule

import (
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// Reach is how much a VM can do with a page by private accesses, for what stands under
// this machine and can only deny whole pages (hcl.RawFaults).
type Reach uint8

// The reaches.
const (
	ReachNone Reach = iota // every access faults: deny the page
	ReachAll               // reading, writing and executing anywhere: allow it
	ReachPart              // some accesses fault: deny it, and carry out the others
)

// Reach returns the reach of a VM at an address, and up to where it is the same at least:
// to the end of what one entry covers. Supervisor shadow stacks do not count.
func (t *TD) Reach(gpa x86.GPA, vm int) (reach Reach, end x86.GPA) {
	e, at := t.walk(gpa, tdx.LEVEL_4K)
	end = gpa&^(1<<shiftOf(at)-1) + 1<<shiftOf(at)
	switch {
	case vm < 0 || vm > t.config.VMs || !e.accessible() || !t.covered(gpa):
		return ReachNone, end
	case vm == tdx.VM_L1:
		return ReachAll, end
	}
	switch a := e.attributes(vm) & tdx.GPA_ATTR_PRESENT; a {
	case tdx.GPA_ATTR_RWX:
		return ReachAll, end
	case 0:
		return ReachNone, end
	}
	return ReachPart, end
}
