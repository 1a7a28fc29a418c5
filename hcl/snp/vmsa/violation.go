package vmsa

import (
	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// Violation says why VMRUN refuses a save area.
type Violation uint8

// What VMRUN refuses, in the order in which this machine looks. Hardware gives
// the same exit for all but the first, whose order is this machine's choice.
const (
	ViolationNone       Violation = iota
	ViolationBusy                 // VINTR_CTRL.BUSY, with alternate injection or Secure AVIC (§15.36.16)
	ViolationNotSNP               // SEV_FEATURES without SNP (§15.36.2)
	ViolationFeatures             // reserved SEV_FEATURES, or such as the host does not allow (§15.36.20)
	ViolationInjection            // restricted and alternate injection, or one of them with Secure AVIC
	ViolationVMPL                 // a VMPL that does not exist
	ViolationVirtualTOM           // virtual TOM in use and not on 2 MiB (§15.36.8)
	ViolationSVME                 // EFER.SVME is zero; this and the following: §15.5.1
	ViolationCR0                  // NW without CD, or bits 63:32
	ViolationCR3                  // reserved bits in long mode
	ViolationCR4                  // reserved bits
	ViolationDR6                  // bits 63:32
	ViolationDR7                  // bits 63:32
	ViolationEFER                 // reserved bits
	ViolationLongPAE              // EFER.LME and CR0.PG without CR4.PAE
	ViolationLongPE               // EFER.LME and CR0.PG without CR0.PE
	ViolationCodeSize             // long mode with CS.L and CS.D
	ViolationCET                  // CR4.CET without CR0.WP
	ViolationEvent                // EVENTINJ that cannot be injected (§15.20, §15.35.8)
	violations
)

var violationNames = [violations]string{
	"none", "busy", "not SNP", "SEV_FEATURES", "injection modes", "VMPL", "virtual TOM", "EFER.SVME", "CR0", "CR3", "CR4",
	"DR6", "DR7", "EFER", "long mode without PAE", "long mode without PE", "CS.L and CS.D", "CET without WP", "EVENTINJ",
}

// String names what is wrong.
func (v Violation) String() string {
	if v < violations {
		return violationNames[v]
	}
	return "unknown"
}

// ExitCode is the exit with which VMRUN refuses. Preconditions: not
// ViolationNone.
func (v Violation) ExitCode() uint64 {
	if v == ViolationBusy {
		return snp.EXIT_BUSY
	}
	return snp.EXIT_INVALID
}

// consistency lists the checks, in the order of the constants.
var consistency = [...]struct {
	violation Violation
	broken    func(*SaveArea) bool
}{
	{ViolationBusy, func(s *SaveArea) bool { return s.injectsItself() && s.VINTR&snp.VINTR_BUSY != 0 }},
	{ViolationNotSNP, func(s *SaveArea) bool { return s.Features&snp.SEV_FEATURE_SNP_ACTIVE == 0 }},
	{ViolationFeatures, func(s *SaveArea) bool { return s.Features&^snp.SEV_FEATURES_DEFINED != 0 }},
	{ViolationInjection, conflictingInjection},
	{ViolationVMPL, func(s *SaveArea) bool { return s.VMPL >= snp.VMPLS }},
	{ViolationVirtualTOM, func(s *SaveArea) bool {
		return s.Features&snp.SEV_FEATURE_VTOM != 0 && s.VirtualTOM&(x86.LargePageSize-1) != 0
	}},
	{ViolationSVME, func(s *SaveArea) bool { return !s.SVME }},
	{ViolationCR0, func(s *SaveArea) bool { return s.Special.CR0>>32 != 0 || s.Special.CR0&(cr0CD|cr0NW) == cr0NW }},
	{ViolationCR3, func(s *SaveArea) bool { return s.long() && s.Special.CR3&cr3Reserved != 0 }},
	{ViolationCR4, func(s *SaveArea) bool { return s.Special.CR4&^cr4Defined != 0 }},
	{ViolationDR6, func(s *SaveArea) bool { return s.DR6>>32 != 0 }},
	{ViolationDR7, func(s *SaveArea) bool { return s.DR7>>32 != 0 }},
	{ViolationEFER, func(s *SaveArea) bool { return s.Special.EFER&^eferDefined != 0 }},
	{ViolationLongPAE, func(s *SaveArea) bool { return s.long() && s.Special.CR4&cr4PAE == 0 }},
	{ViolationLongPE, func(s *SaveArea) bool { return s.long() && s.Special.CR0&cr0PE == 0 }},
	{ViolationCodeSize, func(s *SaveArea) bool {
		const both = hcl.SegLong | hcl.SegDefaultBig
		return s.long() && s.Special.CS.Attributes&both == both
	}},
	{ViolationCET, func(s *SaveArea) bool { return s.Special.CR4&cr4CET != 0 && s.Special.CR0&cr0WP == 0 }},
	{ViolationEvent, func(s *SaveArea) bool { return s.injectsItself() && !injectable(s.EventInj) }},
}

// Violation checks a save area as VMRUN does (§15.5.1, §15.36.12 and what the
// constants name). allowed are the SEV_FEATURES that the host lets a guest use.
func (s *SaveArea) Violation(allowed uint64) Violation {
	for i := range consistency {
		if consistency[i].broken(s) {
			return consistency[i].violation
		}
	}
	if s.Features&^allowed != 0 {
		return ViolationFeatures
	}
	return ViolationNone
}

// long tells whether the VP is in long mode, or would be if it could.
func (s *SaveArea) long() bool { return s.Special.EFER&eferLME != 0 && s.Special.CR0&cr0PG != 0 }

// injectsItself tells whether interrupts come from the VMSA and not from the
// host (§15.36.16, §15.36.21).
func (s *SaveArea) injectsItself() bool {
	return s.Features&(snp.SEV_FEATURE_ALTERNATE_INJ|snp.SEV_FEATURE_SECURE_AVIC) != 0
}

// conflictingInjection finds two of the three ways that exclude each other.
func conflictingInjection(s *SaveArea) bool {
	m := s.Features & (snp.SEV_FEATURE_RESTRICTED_INJ | snp.SEV_FEATURE_ALTERNATE_INJ | snp.SEV_FEATURE_SECURE_AVIC)
	return m&(m-1) != 0
}

// injectable tells whether VMRUN accepts an EVENTINJ (§15.20), which for SEV-ES
// excludes software interrupts and the exceptions that INT3 and INTO raise.
func injectable(event uint64) bool {
	if event&snp.EVENT_VALID == 0 {
		return true
	}
	switch event & snp.EVENT_TYPE_MASK >> snp.EVENT_TYPE_SHIFT {
	case snp.EVENT_TYPE_INTR, snp.EVENT_TYPE_NMI:
		return true
	case snp.EVENT_TYPE_EXCEPTION:
		vector := event & snp.EVENT_VECTOR_MASK
		return vector < 32 && vector != 2 && vector != 3 && vector != 4
	}
	return false
}
