package l2

import (
	"keel/hcl"
	"keel/hcl/abi/tdx"
)

// fieldSize is a field's size (SDM vol. 3, "Encoding of VMCS Fields").
func fieldSize(code uint32) uint64 {
	switch code >> tdx.VMCS_WIDTH_SHIFT & 3 {
	case tdx.VMCS_WIDTH_16:
		return tdx.FIELD_SIZE_16
	case tdx.VMCS_WIDTH_32:
		return tdx.FIELD_SIZE_32
	}
	return tdx.FIELD_SIZE_64
}

// VMCSMask has the bits that a field of a VMCS has.
func VMCSMask(code uint32) uint64 { return 1<<(8<<fieldSize(code)) - 1 }

// VMCSField is the identifier of a field of an L2's VMCS, for TDG.VP.RD and .WR.
// Preconditions: 0 < vm <= tdx.L2_VMS.
func VMCSField(vm int, code uint32) uint64 {
	return tdx.VP_VMCS_1 + uint64(vm-1)*tdx.CLASS_VM_STEP<<tdx.FIELD_CLASS_SHIFT | tdx.FIELD_INC_SIZE |
		fieldSize(code)<<tdx.FIELD_SIZE_SHIFT | uint64(code)
}

// MSRBitmapField is the identifier of eight bytes of an L2's MSR bitmaps, likewise.
func MSRBitmapField(vm int, word uint32) uint64 {
	return tdx.VP_MSR_BITMAPS_1 + uint64(vm-1)*tdx.CLASS_VM_STEP<<tdx.FIELD_CLASS_SHIFT + uint64(word)
}

// Segments lists the segment registers in the order of their VMCS fields.
func Segments(s *hcl.SpecialRegisters) [tdx.VMCS_SEGMENTS]*hcl.Segment {
	return [...]*hcl.Segment{&s.ES, &s.CS, &s.SS, &s.DS, &s.FS, &s.GS, &s.LDT, &s.TR}
}
