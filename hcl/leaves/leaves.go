// Package leaves answers the CPUID instruction of a VP from its own table, and what else
// that table decides. Backends whose guest leaves to Keel for CPUID and XSETBV use it;
// nothing of an answer comes from the host.
//
// Specifications: AMD64 APM vol. 3 appendix E and vol. 2 §11.5 (XSAVE); Intel SDM vol. 2
// (CPUID, XSETBV) and vol. 1 chapter 13 (XSAVE).
package leaves

import "keel/hcl"

// Leaves whose answer depends on the guest's registers, and bits in them.
const (
	Features   = 0x1
	structured = 0x7
	xsave      = 0xd

	ecxXSave   = 1 << 26
	ecxOSXSave = 1 << 27
	ecxOSPKE   = 1 << 4
	ecxAligned = 1 << 1 // the component is aligned to 64 bytes in the compacted format

	xcr0X87 = 1 << 0
	xcr0SSE = 1 << 1
	xcr0AVX = 1 << 2

	cr4OSXSAVE = 1 << 18
	cr4PKE     = 1 << 22

	// The x87 and SSE area with the header behind it, in bytes.
	xsaveBase = 512 + 64
)

// Table is what a VP was given (hcl.VPConfig).
type Table []hcl.CPUIDEntry

// State is what of a VP's registers shows in its answers.
type State struct{ CR4, XCR0, XSS uint64 }

// Lookup finds the entry of a leaf, or nil.
func (t Table) Lookup(leaf, subleaf uint32) *hcl.CPUIDEntry {
	for i := range t {
		if e := &t[i]; e.Leaf == leaf && (!e.Indexed || e.Subleaf == subleaf) {
			return e
		}
	}
	return nil
}

// Query answers CPUID. What is missing is zero, as AMD's processors answer.
func (t Table) Query(leaf, subleaf uint32, s State) (a, b, c, d uint32) {
	e := t.Lookup(leaf, subleaf)
	if e == nil {
		return 0, 0, 0, 0
	}
	a, b, c, d = e.EAX, e.EBX, e.ECX, e.EDX
	switch {
	case leaf == Features:
		c = with(c, ecxOSXSave, s.CR4&cr4OSXSAVE != 0)
	case leaf == structured && subleaf == 0:
		c = with(c, ecxOSPKE, s.CR4&cr4PKE != 0)
	case leaf == xsave && subleaf == 0:
		b = t.standardSize(s.XCR0)
	case leaf == xsave && subleaf == 1:
		b = t.compactSize(s.XCR0 | s.XSS)
	}
	return a, b, c, d
}

func with(v, bit uint32, on bool) uint32 {
	if on {
		return v | bit
	}
	return v &^ bit
}

// components calls do for the components of XSAVE, beyond x87 and SSE, that a mask names
// and the table describes.
func (t Table) components(mask uint64, do func(e *hcl.CPUIDEntry)) {
	for i := uint32(2); i < 63; i++ {
		if mask>>i&1 == 0 {
			continue
		}
		if e := t.Lookup(xsave, i); e != nil && e.Indexed {
			do(e)
		}
	}
}

// standardSize is the size of the standard format, in bytes.
func (t Table) standardSize(mask uint64) uint32 {
	size := uint32(xsaveBase)
	t.components(mask, func(e *hcl.CPUIDEntry) { size = max(size, e.EBX+e.EAX) })
	return size
}

// compactSize is the size of the compacted format, in bytes.
func (t Table) compactSize(mask uint64) uint32 {
	size := uint32(xsaveBase)
	t.components(mask, func(e *hcl.CPUIDEntry) {
		if e.ECX&ecxAligned != 0 {
			size = (size + 63) &^ 63
		}
		size += e.EAX
	})
	return size
}

// HasXSave tells whether the guest was given XSAVE.
func (t Table) HasXSave() bool {
	e := t.Lookup(Features, 0)
	return e != nil && e.ECX&ecxXSave != 0
}

// ValidXCR0 tells whether a guest whose CR4 is this may load a value into XCR0.
func (t Table) ValidXCR0(v, cr4 uint64) bool {
	e := t.Lookup(xsave, 0)
	if e == nil || cr4&cr4OSXSAVE == 0 {
		return false
	}
	return v&xcr0X87 != 0 && v&^(uint64(e.EDX)<<32|uint64(e.EAX)) == 0 && (v&xcr0AVX == 0 || v&xcr0SSE != 0)
}

// SupportedXSS are the bits of XSS that the guest was given.
func (t Table) SupportedXSS() uint64 {
	e := t.Lookup(xsave, 1)
	if e == nil || !e.Indexed {
		return 0
	}
	return uint64(e.EDX)<<32 | uint64(e.ECX)
}
