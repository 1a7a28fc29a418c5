// Package snp holds the numbers and layouts of AMD SEV-SNP: the save area of a
// VP (VMSA), the exits of SVM, the reverse map table (RMP) and the instructions
// on it, the page that a guest shares with its host (GHCB), and the messages
// between a guest and the AMD secure processor (AMD-SP).
//
// Specifications: AMD64 Architecture Programmer's Manual (APM) vol. 2 (24593) and
// vol. 3 (24594), rev. 3.40 or newer; SEV-SNP Firmware ABI (56860); GHCB
// Standardization (56421); Secure VM Service Module (58019). Where a section moves
// between revisions, its name stands for it. The numbers agree with Linux 7.2:
// arch/x86/include/asm/{svm,sev,sev-common}.h, arch/x86/include/uapi/asm/svm.h and
// include/uapi/linux/psp-sev.h.
package snp

// VMPLs (APM vol. 2 §15.36.7): 0 has the most privileges.
const (
	VMPL0 = 0
	VMPL1 = 1
	VMPL2 = 2
	VMPL3 = 3
	VMPLS = 4 // how many there are: CPUID Fn8000_001F EBX[15:12]
)

// CPUID_SEV is the leaf that describes SEV (APM vol. 3 §E.4.17).
const (
	CPUID_SEV = 0x8000001F

	CPUID_SEV_EAX_SEV         = 1 << 1
	CPUID_SEV_EAX_SEV_ES      = 1 << 3
	CPUID_SEV_EAX_SEV_SNP     = 1 << 4
	CPUID_SEV_EAX_VMPL        = 1 << 5
	CPUID_SEV_EAX_RMPQUERY    = 1 << 6
	CPUID_SEV_EAX_VMPL_SSS    = 1 << 7
	CPUID_SEV_EAX_SECURE_TSC  = 1 << 8
	CPUID_SEV_EAX_VIRTUAL_TOM = 1 << 18
	CPUID_SEV_EBX_CBIT        = 0x3f // mask: position of the C bit
	CPUID_SEV_EBX_VMPLS_SHIFT = 12   // four bits: number of VMPLs
)

// Model-specific registers of a guest (APM vol. 2 §15.34.10, §15.35.7, §15.36.8,
// §15.36.18, §15.36.21).
const (
	MSR_GHCB                = 0xC0010130
	MSR_SEV_STATUS          = 0xC0010131
	MSR_GUEST_TSC_FREQ      = 0xC0010134
	MSR_VIRTUAL_TOM         = 0xC0010135
	MSR_SECURE_AVIC_CONTROL = 0xC0010138
)
