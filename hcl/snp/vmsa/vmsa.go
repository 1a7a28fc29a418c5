// Package vmsa reads and writes the save area of an SEV-SNP guest's VP (VMSA), for
// those who run a VP from one and for those who emulate that. It judges a save area
// as VMRUN does, and ties the exits of SVM to those of package hcl.
//
// Specification: AMD64 Architecture Programmer's Manual (APM) vol. 2, the sections
// that are named, and appendices B and C.
package vmsa

import (
	"encoding/binary"
	"errors"
	"fmt"

	"keel/hcl"
	"keel/hcl/abi/snp"
)

// ErrVMSA says that a page is no save area.
var ErrVMSA = errors.New("VMSA")

// SaveArea is a VP's state as its VMSA holds it (APM vol. 2 table B-4), apart
// from x87, SSE and AVX registers, shadow stacks, branch records and intercepts:
// these Encode leaves in the page as they are.
type SaveArea struct {
	Registers hcl.Registers
	// Special holds EFER without SVME, which every VMSA must set and no guest
	// sees. LMA is derived from LME and CR0.PG.
	Special   hcl.SpecialRegisters
	VMPL, CPL uint8
	// SVME is EFER.SVME; a VMSA without it cannot be run. Encode always sets it.
	SVME bool

	DR0, DR1, DR2, DR3, DR6, DR7             uint64
	XCR0, XSS, PAT, SpecCtrl                 uint64
	STAR, LSTAR, CSTAR, SFMASK, KernelGSBase uint64
	SysenterCS, SysenterESP, SysenterEIP     uint64
	TSCAux, PKRU, MXCSR                      uint32
	X87FCW                                   uint16

	Features   uint64 // SEV_FEATURES
	VINTR      uint64 // virtual interrupt control
	EventInj   uint64
	VirtualTOM uint64
	TLBID      uint64
	PCPUID     uint64
	Exit       ExitInfo
}

// ExitInfo is why the VP left the guest (§15.36.9).
type ExitInfo struct {
	Code, Info1, Info2 uint64
	IntInfo            uint64 // the event whose delivery was interrupted, as EVENTINJ
	NRIP               uint64 // of the following instruction, or 0
}

// Bits of control registers that a save area is judged by (APM vol. 2 §3.1).
const (
	cr0PE    = 1 << 0
	cr0WP    = 1 << 16
	cr0NW    = 1 << 29
	cr0CD    = 1 << 30
	cr0PG    = 1 << 31
	cr4PAE   = 1 << 5
	cr4CET   = 1 << 23
	eferLME  = 1 << 8
	eferLMA  = 1 << 10
	eferSVME = 1 << 12
	rflagsVM = 1 << 17

	// VME to UMIP, LA57, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP, PKE, CET.
	cr4Defined = 0xfff | 1<<12 | 3<<16 | 1<<18 | 7<<20 | cr4CET
	// SCE, LME, LMA, NXE, SVME, LMSLE, FFXSR, TCE, MCOMMIT, INTWB, UAIE, AIBRSE.
	eferDefined = 1 | eferLME | eferLMA | 1<<11 | eferSVME | 7<<13 | 3<<17 | 3<<20
	// In long mode the bits above the physical address must be zero.
	cr3Reserved = 0xfff << 52
)

// word ties a field of a save area to where it lies.
type word struct {
	at    int
	value *uint64
}

// words lists the fields of eight bytes.
func (s *SaveArea) words() [54]word {
	r, c := &s.Registers, &s.Special
	return [...]word{
		{snp.VMSA_RAX, &r.RAX},
		{snp.VMSA_RBX, &r.RBX},
		{snp.VMSA_RCX, &r.RCX},
		{snp.VMSA_RDX, &r.RDX},
		{snp.VMSA_RSI, &r.RSI},
		{snp.VMSA_RDI, &r.RDI},
		{snp.VMSA_RSP, &r.RSP},
		{snp.VMSA_RBP, &r.RBP},
		{snp.VMSA_R8, &r.R8},
		{snp.VMSA_R9, &r.R9},
		{snp.VMSA_R10, &r.R10},
		{snp.VMSA_R11, &r.R11},
		{snp.VMSA_R12, &r.R12},
		{snp.VMSA_R13, &r.R13},
		{snp.VMSA_R14, &r.R14},
		{snp.VMSA_R15, &r.R15},
		{snp.VMSA_RIP, &r.RIP},
		{snp.VMSA_RFLAGS, &r.RFLAGS},
		{snp.VMSA_CR0, &c.CR0},
		{snp.VMSA_CR2, &c.CR2},
		{snp.VMSA_CR3, &c.CR3},
		{snp.VMSA_CR4, &c.CR4},
		{snp.VMSA_EFER, &c.EFER},
		{snp.VMSA_GDTR + snp.SEG_BASE, &c.GDT.Base},
		{snp.VMSA_IDTR + snp.SEG_BASE, &c.IDT.Base},
		{snp.VMSA_DR0, &s.DR0},
		{snp.VMSA_DR1, &s.DR1},
		{snp.VMSA_DR2, &s.DR2},
		{snp.VMSA_DR3, &s.DR3},
		{snp.VMSA_DR6, &s.DR6},
		{snp.VMSA_DR7, &s.DR7},
		{snp.VMSA_XCR0, &s.XCR0},
		{snp.VMSA_XSS, &s.XSS},
		{snp.VMSA_G_PAT, &s.PAT},
		{snp.VMSA_SPEC_CTRL, &s.SpecCtrl},
		{snp.VMSA_STAR, &s.STAR},
		{snp.VMSA_LSTAR, &s.LSTAR},
		{snp.VMSA_CSTAR, &s.CSTAR},
		{snp.VMSA_SFMASK, &s.SFMASK},
		{snp.VMSA_KERNEL_GS_BASE, &s.KernelGSBase},
		{snp.VMSA_SYSENTER_CS, &s.SysenterCS},
		{snp.VMSA_SYSENTER_ESP, &s.SysenterESP},
		{snp.VMSA_SYSENTER_EIP, &s.SysenterEIP},
		{snp.VMSA_SEV_FEATURES, &s.Features},
		{snp.VMSA_VINTR_CTRL, &s.VINTR},
		{snp.VMSA_EVENTINJ, &s.EventInj},
		{snp.VMSA_VIRTUAL_TOM, &s.VirtualTOM},
		{snp.VMSA_TLB_ID, &s.TLBID},
		{snp.VMSA_PCPU_ID, &s.PCPUID},
		{snp.VMSA_GUEST_EXIT_CODE, &s.Exit.Code},
		{snp.VMSA_GUEST_EXITINFO1, &s.Exit.Info1},
		{snp.VMSA_GUEST_EXITINFO2, &s.Exit.Info2},
		{snp.VMSA_GUEST_EXITINTINFO, &s.Exit.IntInfo},
		{snp.VMSA_GUEST_NRIP, &s.Exit.NRIP},
	}
}

// Decode reads a save area from a page, and replaces all that s held. It refuses
// only what is not a page: what the page says is judged by Violation. Keep one
// SaveArea per VP: Violation lets it escape to the heap.
func (s *SaveArea) Decode(page []byte) error {
	if err := checkPage(page); err != nil {
		return err
	}
	le := binary.LittleEndian
	for _, w := range s.words() {
		*w.value = le.Uint64(page[w.at:])
	}
	for _, g := range s.segments() {
		*g.segment = decodeSegment(page[g.at:])
	}
	s.Special.GDT.Limit = uint16(le.Uint32(page[snp.VMSA_GDTR+snp.SEG_LIMIT:]))
	s.Special.IDT.Limit = uint16(le.Uint32(page[snp.VMSA_IDTR+snp.SEG_LIMIT:]))
	s.TSCAux, s.PKRU = le.Uint32(page[snp.VMSA_TSC_AUX:]), le.Uint32(page[snp.VMSA_PKRU:])
	s.MXCSR, s.X87FCW = le.Uint32(page[snp.VMSA_MXCSR:]), le.Uint16(page[snp.VMSA_X87_FCW:])
	s.VMPL, s.CPL = page[snp.VMSA_VMPL], page[snp.VMSA_CPL]

	s.SVME = s.Special.EFER&eferSVME != 0
	s.Special.EFER &^= eferSVME | eferLMA
	if s.Special.EFER&eferLME != 0 && s.Special.CR0&cr0PG != 0 {
		s.Special.EFER |= eferLMA
	}
	// SVM keeps the CPL itself, everybody else in the stack segment's DPL.
	dpl := uint32(s.CPL&3) << hcl.SegDPLShift
	s.Special.SS.Attributes = s.Special.SS.Attributes&^(3<<hcl.SegDPLShift) | dpl
	return nil
}

// Encode writes a save area into a page, as #VMEXIT does.
func (s *SaveArea) Encode(page []byte) error {
	if err := checkPage(page); err != nil {
		return err
	}
	le := binary.LittleEndian
	for _, w := range s.words() {
		le.PutUint64(page[w.at:], *w.value)
	}
	le.PutUint64(page[snp.VMSA_EFER:], s.Special.EFER|eferSVME)
	for _, g := range s.segments() {
		encodeSegment(page[g.at:], g.segment)
	}
	le.PutUint32(page[snp.VMSA_GDTR+snp.SEG_LIMIT:], uint32(s.Special.GDT.Limit))
	le.PutUint32(page[snp.VMSA_IDTR+snp.SEG_LIMIT:], uint32(s.Special.IDT.Limit))
	le.PutUint32(page[snp.VMSA_TSC_AUX:], s.TSCAux)
	le.PutUint32(page[snp.VMSA_PKRU:], s.PKRU)
	le.PutUint32(page[snp.VMSA_MXCSR:], s.MXCSR)
	le.PutUint16(page[snp.VMSA_X87_FCW:], s.X87FCW)
	page[snp.VMSA_VMPL], page[snp.VMSA_CPL] = s.VMPL, s.CPL
	return nil
}

// SetRegisters takes over the registers of a VP, with the CPL that they imply
// (APM vol. 2 §4.9.1).
func (s *SaveArea) SetRegisters(r *hcl.Registers, special *hcl.SpecialRegisters) {
	s.Registers, s.Special = *r, *special
	s.Special.EFER &^= eferSVME
	switch {
	case special.CR0&cr0PE == 0:
		s.CPL = 0
	case r.RFLAGS&rflagsVM != 0:
		s.CPL = 3
	default:
		s.CPL = uint8(special.SS.Attributes >> hcl.SegDPLShift & 3)
	}
}

func checkPage(page []byte) error {
	if len(page) != snp.VMSA_SIZE {
		return fmt.Errorf("%w: %d bytes: pass one page", ErrVMSA, len(page))
	}
	return nil
}
