// Package tdx holds the numbers and layouts of Intel TDX as the first level (L1) of
// a trust domain sees them: the leaf functions of TDCALL and their status codes, page
// attributes, metadata fields, the state with which a nested VM (L2) is entered and
// left, reports, and the calls to the host. The encodings that TDX takes from VMX are
// here too: VMCS fields, exit reasons and exit qualifications.
//
// Specifications: Intel TDX Module 1.5 ABI (348551), Base Architecture (348549) and
// TD Partitioning Architecture (354807); Guest-Host Communication Interface (344426),
// "GHCI"; Intel SDM vol. 3, chapters on VMX. Where a section moves between revisions,
// its name stands for it. The numbers agree with the published sources of the module,
// version 1.5.01 (include/auto_gen/*, include/tdx_api_defs.h,
// src/common/x86_defs/vmcs_defs.h), and, where they have them, with openvmm's
// vm/x86/x86defs/src/{tdx,vmx}.rs and Linux arch/x86/include/asm/{vmx,shared/tdx}.h.
package tdx

// VMs of a TD (TD Partitioning, "L2 VMs"): VM 0 is L1 itself.
const (
	VM_L1  = 0
	VMS    = 4 // how many numbers there are, with L1's
	L2_VMS = VMS - 1
)

// Guest-physical addresses (Base Architecture, "Guest Physical Address Space"). The
// shared bit is the highest of the address.
const (
	GPA_WIDTH_48      = 48
	GPA_WIDTH_52      = 52
	GPA_SHARED_48     = 1 << 47
	GPA_SHARED_52     = 1 << 51
	GPA_PAGE_MASK     = 0x000FFFFFFFFFF000 // bits 51:12
	GPA_ABOVE_48_MASK = 0x000F000000000000 // must be zero where the width is 48
)

// CPUID_TDX is the leaf by which a guest knows a TD; EBX, EDX and ECX spell its name
// (Base Architecture, "CPUID Leaf 0x21").
const (
	CPUID_TDX     = 0x21
	CPUID_TDX_EBX = 0x65746E49 // "Inte"
	CPUID_TDX_EDX = 0x5844546C // "lTDX"
	CPUID_TDX_ECX = 0x20202020
)
