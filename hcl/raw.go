package hcl

import "keel/hcl/abi/x86"

// RawFaults is a partition whose guest can be denied pages. An access to a denied page,
// by an instruction, for its code or by a page walk, ends Run with ExitMemoryFault:
// nothing was executed, RIP is at the instruction, and GPA names the page. This is what
// a nested page fault is to the paravisor of a TEE.
//
// Ranges are whole pages. The methods may be called from any thread; a VP that is inside
// Run sees the change before the method returns.
type RawFaults interface {
	Partition
	// Deny makes accesses to a range fault.
	Deny(gpa x86.GPA, length uint64) error
	// Allow undoes Deny. Where no memory is mapped, accesses are ExitMMIO again.
	Allow(gpa x86.GPA, length uint64) error
	// Reserve denies a range that has no memory, and never will have: the registers of
	// an emulated device.
	Reserve(gpa x86.GPA, length uint64) error
}
