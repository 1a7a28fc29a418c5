package tdx

import "keel/hcl"

// Leaves of CPUID whose answer depends on the guest's registers, and bits in them (Intel
// SDM vol. 2, "CPUID").
const (
	leafFeatures   = 0x1
	leafStructured = 0x7
	leafXSave      = 0xd

	ecxXSave   = 1 << 26
	ecxOSXSave = 1 << 27
	ecxOSPKE   = 1 << 4
	ecxAligned = 1 << 1 // the component is aligned to 64 bytes in the compacted format

	xcr0X87 = 1 << 0
	xcr0SSE = 1 << 1
	xcr0AVX = 1 << 2

	// The x87 and SSE area with the header behind it, in bytes (SDM vol. 1 §13.4).
	xsaveBase = 512 + 64
)

// lookup finds the entry of a leaf, or nil.
func lookup(table []hcl.CPUIDEntry, leaf, subleaf uint32) *hcl.CPUIDEntry {
	for i := range table {
		if e := &table[i]; e.Leaf == leaf && (!e.Indexed || e.Subleaf == subleaf) {
			return e
		}
	}
	return nil
}

// queryCPUID answers CPUID from the VP's own table; what is missing there is zero.
func (vp *VP) queryCPUID(leaf, subleaf uint32) (a, b, c, d uint32) {
	e := lookup(vp.cpuid, leaf, subleaf)
	if e == nil {
		return 0, 0, 0, 0
	}
	a, b, c, d = e.EAX, e.EBX, e.ECX, e.EDX
	switch {
	case leaf == leafFeatures:
		c = with(c, ecxOSXSave, vp.cr4()&cr4OSXSAVE != 0)
	case leaf == leafStructured && subleaf == 0:
		c = with(c, ecxOSPKE, vp.cr4()&cr4PKE != 0)
	case leaf == leafXSave && subleaf == 0:
		b = vp.xsaveSize(vp.context.XCR0)
	case leaf == leafXSave && subleaf == 1:
		b = vp.compactSize(vp.context.XCR0 | vp.context.XSS)
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
func (vp *VP) components(mask uint64, do func(e *hcl.CPUIDEntry)) {
	for i := uint32(2); i < 63; i++ {
		if mask>>i&1 == 0 {
			continue
		}
		if e := lookup(vp.cpuid, leafXSave, i); e != nil && e.Indexed {
			do(e)
		}
	}
}

// xsaveSize is the size of the standard format, in bytes.
func (vp *VP) xsaveSize(mask uint64) uint32 {
	size := uint32(xsaveBase)
	vp.components(mask, func(e *hcl.CPUIDEntry) { size = max(size, e.EBX+e.EAX) })
	return size
}

// compactSize is the size of the compacted format, in bytes.
func (vp *VP) compactSize(mask uint64) uint32 {
	size := uint32(xsaveBase)
	vp.components(mask, func(e *hcl.CPUIDEntry) {
		if e.ECX&ecxAligned != 0 {
			size = (size + 63) &^ 63
		}
		size += e.EAX
	})
	return size
}

// hasXSave tells whether the guest was given XSAVE.
func (vp *VP) hasXSave() bool {
	e := lookup(vp.cpuid, leafFeatures, 0)
	return e != nil && e.ECX&ecxXSave != 0
}

// validXCR0 tells whether the guest may load a value into XCR0 (SDM vol. 2, "XSETBV").
func (vp *VP) validXCR0(v uint64) bool {
	e := lookup(vp.cpuid, leafXSave, 0)
	if e == nil || vp.cr4()&cr4OSXSAVE == 0 {
		return false
	}
	return v&xcr0X87 != 0 && v&^(uint64(e.EDX)<<32|uint64(e.EAX)) == 0 && (v&xcr0AVX == 0 || v&xcr0SSE != 0)
}

// supportedXSS are the bits of XSS that the guest was given.
func (vp *VP) supportedXSS() uint64 {
	e := lookup(vp.cpuid, leafXSave, 1)
	if e == nil || !e.Indexed {
		return 0
	}
	return uint64(e.EDX)<<32 | uint64(e.ECX)
}
