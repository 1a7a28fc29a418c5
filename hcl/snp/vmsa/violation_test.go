package vmsa

import (
	"testing"

	"keel/hcl"
	"keel/hcl/abi/snp"
)

// runnable is a save area as firmware starts a 64-bit guest.
func runnable() SaveArea {
	s := SaveArea{VMPL: 2, SVME: true, DR6: 0xffff0ff0, DR7: 0x400, XCR0: 1}
	s.Features = snp.SEV_FEATURE_SNP_ACTIVE | snp.SEV_FEATURE_REFLECT_VC | snp.SEV_FEATURE_ALTERNATE_INJ
	s.Special.CR0 = 1<<31 | 1<<16 | 1<<5 | 1<<4 | 1
	s.Special.CR4 = 1<<5 | 1<<9
	s.Special.CR3 = 0x1000
	s.Special.EFER = 1<<8 | 1<<10 | 1
	s.Special.CS.Attributes = 0xa09b
	s.Registers.RFLAGS = 2
	return s
}

// TestConsistency: the illegal states of APM vol. 2 §15.5.1 and the checks that
// §15.20, §15.35.8 and §15.36 add, one by one.
func TestConsistency(t *testing.T) {
	const all = snp.SEV_FEATURES_DEFINED
	event := func(kind, vector uint64) func(*SaveArea) {
		return func(s *SaveArea) { s.EventInj = 1<<31 | kind<<8 | vector }
	}
	for _, c := range []struct {
		what    string
		change  func(*SaveArea)
		allowed uint64
		want    Violation
		exit    uint64
	}{
		{"64-bit", func(*SaveArea) {}, all, ViolationNone, 0},
		{"real mode", func(s *SaveArea) { s.Special.CR0, s.Special.CR4, s.Special.EFER = 0x10, 0, 0 }, all, ViolationNone, 0},
		{"CR3 high bits outside of long mode", func(s *SaveArea) { s.Special.CR0, s.Special.CR3 = 0x11, 1<<63 }, all, ViolationNone, 0},
		{"CD without NW", func(s *SaveArea) { s.Special.CR0 |= 1 << 30 }, all, ViolationNone, 0},
		{"CD with NW", func(s *SaveArea) { s.Special.CR0 |= 3 << 29 }, all, ViolationNone, 0},
		{"L with D outside of long mode", func(s *SaveArea) { s.Special.CS.Attributes, s.Special.EFER = 0xe09b, 0 }, all, ViolationNone, 0},

		{"SVME zero", func(s *SaveArea) { s.SVME = false }, all, ViolationSVME, snp.EXIT_INVALID},
		{"NW without CD", func(s *SaveArea) { s.Special.CR0 |= 1 << 29 }, all, ViolationCR0, snp.EXIT_INVALID},
		{"CR0 63:32", func(s *SaveArea) { s.Special.CR0 |= 1 << 32 }, all, ViolationCR0, snp.EXIT_INVALID},
		{"CR3 reserved", func(s *SaveArea) { s.Special.CR3 |= 1 << 52 }, all, ViolationCR3, snp.EXIT_INVALID},
		{"CR4 reserved", func(s *SaveArea) { s.Special.CR4 |= 1 << 13 }, all, ViolationCR4, snp.EXIT_INVALID},
		{"CR4 63:32", func(s *SaveArea) { s.Special.CR4 |= 1 << 40 }, all, ViolationCR4, snp.EXIT_INVALID},
		{"DR6 63:32", func(s *SaveArea) { s.DR6 |= 1 << 32 }, all, ViolationDR6, snp.EXIT_INVALID},
		{"DR7 63:32", func(s *SaveArea) { s.DR7 |= 1 << 63 }, all, ViolationDR7, snp.EXIT_INVALID},
		{"EFER reserved", func(s *SaveArea) { s.Special.EFER |= 1 << 9 }, all, ViolationEFER, snp.EXIT_INVALID},
		{"LME, PG, no PAE", func(s *SaveArea) { s.Special.CR4 &^= 1 << 5 }, all, ViolationLongPAE, snp.EXIT_INVALID},
		{"LME, PG, no PE", func(s *SaveArea) { s.Special.CR0 &^= 1 }, all, ViolationLongPE, snp.EXIT_INVALID},
		{"L and D", func(s *SaveArea) { s.Special.CS.Attributes |= hcl.SegDefaultBig }, all, ViolationCodeSize, snp.EXIT_INVALID},
		{"CET, no WP", func(s *SaveArea) { s.Special.CR4 |= 1 << 23; s.Special.CR0 &^= 1 << 16 }, all, ViolationCET, snp.EXIT_INVALID},

		{"not SNP", func(s *SaveArea) { s.Features &^= 1 }, all, ViolationNotSNP, snp.EXIT_INVALID},
		{"reserved feature", func(s *SaveArea) { s.Features |= 1 << 40 }, all, ViolationFeatures, snp.EXIT_INVALID},
		{"feature that the host forbids", func(s *SaveArea) { s.Features |= snp.SEV_FEATURE_SECURE_TSC }, all &^ snp.SEV_FEATURE_SECURE_TSC, ViolationFeatures, snp.EXIT_INVALID},
		{"restricted and alternate", func(s *SaveArea) { s.Features |= snp.SEV_FEATURE_RESTRICTED_INJ }, all, ViolationInjection, snp.EXIT_INVALID},
		{"Secure AVIC and alternate", func(s *SaveArea) { s.Features |= snp.SEV_FEATURE_SECURE_AVIC }, all, ViolationInjection, snp.EXIT_INVALID},
		{"VMPL 4", func(s *SaveArea) { s.VMPL = 4 }, all, ViolationVMPL, snp.EXIT_INVALID},
		{"virtual TOM", func(s *SaveArea) { s.Features |= snp.SEV_FEATURE_VTOM; s.VirtualTOM = 0x1000 }, all, ViolationVirtualTOM, snp.EXIT_INVALID},
		{"virtual TOM, feature off", func(s *SaveArea) { s.VirtualTOM = 0x1000 }, all, ViolationNone, 0},

		{"BUSY", func(s *SaveArea) { s.VINTR |= snp.VINTR_BUSY }, all, ViolationBusy, snp.EXIT_BUSY},
		{"BUSY means nothing without alternate injection", func(s *SaveArea) {
			s.VINTR |= snp.VINTR_BUSY
			s.Features &^= snp.SEV_FEATURE_ALTERNATE_INJ
		}, all, ViolationNone, 0},

		{"interrupt", event(0, 0x80), all, ViolationNone, 0},
		{"NMI", event(2, 2), all, ViolationNone, 0},
		{"#PF", event(3, 14), all, ViolationNone, 0},
		{"reserved type", event(1, 14), all, ViolationEvent, snp.EXIT_INVALID},
		{"software interrupt", event(4, 0x80), all, ViolationEvent, snp.EXIT_INVALID},
		{"exception 2", event(3, 2), all, ViolationEvent, snp.EXIT_INVALID},
		{"exception 3", event(3, 3), all, ViolationEvent, snp.EXIT_INVALID},
		{"exception 4", event(3, 4), all, ViolationEvent, snp.EXIT_INVALID},
		{"exception 32", event(3, 32), all, ViolationEvent, snp.EXIT_INVALID},
		{"not valid, so not looked at", func(s *SaveArea) { s.EventInj = 7 << 8 }, all, ViolationNone, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := runnable()
			c.change(&s)
			got := s.Violation(c.allowed)
			if got != c.want {
				t.Fatalf("%v, want %v", got, c.want)
			}
			if got != ViolationNone && got.ExitCode() != c.exit {
				t.Errorf("exit %#x, want %#x", got.ExitCode(), c.exit)
			}
		})
	}
}
