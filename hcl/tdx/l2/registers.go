// Package l2 holds what the first level (L1) of a trust domain and the TDX module say to
// each other about a nested VM (L2): L1's registers at a TDCALL, the state with which an
// L2 is entered, why it was left, events, and the names of the fields that L1 reads and
// writes. It ties the exits of VMX to those of package hcl. It is for those who run an
// L2, and for those who emulate the module.
//
// Specifications: Intel TDX Module 1.5 ABI (348551), cited as ABI; TD Partitioning
// Architecture (354807); Intel SDM vol. 3.
package l2

// Registers are those of L1 that TDCALL reads and writes.
type Registers struct {
	RAX, RCX, RDX, RBX, RSI, RDI         uint64
	R8, R9, R10, R11, R12, R13, R14, R15 uint64
}

// Returned puts the exit of an L2 into L1's registers, as TDG.VP.ENTER returns it.
func (r *Registers) Returned(o *Outputs) {
	r.RAX, r.RCX, r.RDX, r.RBX, r.RSI, r.RDI = o.RAX, o.RCX, o.RDX, 0, o.RSI, o.RDI
	r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15 = o.R8, o.R9, o.R10, o.R11, o.R12, o.R13, 0, 0
}

// Outputs reads them back.
func (r *Registers) Outputs() Outputs {
	return Outputs{
		RAX: r.RAX, RCX: r.RCX, RDX: r.RDX, RSI: r.RSI, RDI: r.RDI, R8: r.R8, R9: r.R9, R10: r.R10, R11: r.R11, R12: r.R12, R13: r.R13,
	}
}
