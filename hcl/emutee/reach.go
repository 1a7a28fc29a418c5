package emutee

import (
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// Reach is how much a VMPL can do with a page by private accesses, for what
// stands under this machine and can only deny whole pages (hcl.RawFaults).
type Reach uint8

// The reaches.
const (
	ReachNone Reach = iota // every access faults: deny the page
	ReachAll               // reading, writing and executing at any CPL: allow it
	ReachPart              // some accesses fault: deny it, and carry out the others
)

// Reach returns the reach of a VMPL at an address, and up to where it is the
// same at least: to the end of the page, or of the 2 MiB that one entry covers.
// Supervisor shadow stacks do not count.
func (r *RMP) Reach(gpa x86.GPA, vmpl uint8) (reach Reach, end x86.GPA) {
	end = gpa&^(x86.PageSize-1) + x86.PageSize
	if !r.covered(gpa) {
		return ReachNone, end
	}
	e := r.lookup(gpa)
	if e&large != 0 {
		end = gpa&^(x86.LargePageSize-1) + x86.LargePageSize
	}
	if !e.usable() || e&validated == 0 {
		return ReachNone, end
	}
	switch p := e.permissions(vmpl) & snp.RMP_RWX; {
	case p == snp.RMP_RWX:
		return ReachAll, end
	case p&^snp.RMP_W == 0: // writing without reading is an illegal setting
		return ReachNone, end
	}
	return ReachPart, end
}
