package kvm

import (
	"keel/hcl"
	"keel/hcl/abi/kvm"
)

// XSAVE and the features that build on it, by leaf (Intel SDM vol. 2, CPUID;
// AMD64 APM vol. 3 appendix E).
const (
	leafFeatures    = 0x1
	leafStructured  = 0x7
	leafXSave       = 0xd
	leafExtFeatures = 0x80000001

	ecxXSave = 1<<26 | 1<<27 | 1<<28 | 1<<12 | 1<<29 // XSAVE, OSXSAVE, AVX, FMA, F16C
	ebxAVX   = 1<<5 | 1<<16 | 1<<17 | 1<<21 |        // AVX2, AVX512F, DQ, IFMA
		1<<26 | 1<<27 | 1<<28 | 1<<30 | 1<<31 // AVX512PF, ER, CD, BW, VL
	ecxAVX = 1<<1 | 1<<3 | 1<<4 | 1<<6 | // AVX512_VBMI, PKU, OSPKE, VBMI2
		1<<9 | 1<<10 | 1<<11 | 1<<12 | 1<<14 // VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ
	edxAVX = 1<<2 | 1<<3 | 1<<8 | 1<<22 | 1<<23 | 1<<24 | 1<<25 // 4VNNIW, 4FMAPS, VP2INTERSECT, AMX, FP16
	ecxXOP = 1<<11 | 1<<15 | 1<<16                              // XOP, LWP, FMA4
)

// withoutXSave removes XSAVE and what builds on it. The SVM that QEMU emulates,
// unlike that of hardware, lets a guest's XSETBV pass unseen: the kernel beneath
// the guest would go on with the guest's XCR0, and lose the registers that this
// does not name at the next switch between threads. There a guest must not have
// XSAVE, without which KVM refuses CR4.OSXSAVE and the processor XSETBV.
func withoutXSave(supported []hcl.CPUIDEntry) []hcl.CPUIDEntry {
	out := make([]hcl.CPUIDEntry, 0, len(supported))
	for _, e := range supported {
		switch {
		case e.Leaf == leafXSave, e.Leaf == leafStructured && e.Subleaf > 0:
			continue // the higher subleaves of the structured features are AVX and AMX
		case e.Leaf == leafFeatures:
			e.ECX &^= ecxXSave
		case e.Leaf == leafStructured:
			e.EAX = 0
			e.EBX &^= ebxAVX
			e.ECX &^= ecxAVX
			e.EDX &^= edxAVX
		case e.Leaf == leafExtFeatures:
			e.ECX &^= ecxXOP
		}
		out = append(out, e)
	}
	return out
}

// fromTable converts KVM's list.
func fromTable(entries []kvm.CPUIDEntry) []hcl.CPUIDEntry {
	out := make([]hcl.CPUIDEntry, 0, len(entries))
	for _, e := range entries {
		out = append(out, hcl.CPUIDEntry{
			Leaf: e.Function, Subleaf: e.Index,
			Indexed: e.Flags&kvm.CPUID_FLAG_SIGNIFCANT_INDEX != 0,
			EAX:     e.Eax, EBX: e.Ebx, ECX: e.Ecx, EDX: e.Edx,
		})
	}
	return out
}
