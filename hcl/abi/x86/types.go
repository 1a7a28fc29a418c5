// Package x86 holds the numbers and layouts of the x86-64 architecture that
// more than one room needs: address types, control register bits, MSR indices
// and exception vectors.
//
// Specifications: AMD64 Architecture Programmer's Manual (APM) vol. 2 and 3,
// Intel 64 and IA-32 Software Developer's Manual (SDM) vol. 3 and 4.
package x86

// GPA is a guest physical address in bytes.
type GPA uint64

// APICID identifies a local APIC: 8 bits in xAPIC mode, 32 in x2APIC mode.
type APICID uint32

// Page geometry, in bytes.
const (
	PageShift     = 12
	PageSize      = 1 << PageShift
	LargePageSize = 2 << 20
)
