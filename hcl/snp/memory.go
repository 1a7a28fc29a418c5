package snp

import (
	"fmt"

	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
	"keel/hcl/private"
)

// Accept makes a range of RAM the guest's own, as far as it is not yet: Keel must not
// touch a page before. Pages that were denied stay so.
func (p *Partition) Accept(gpa x86.GPA, length uint64) error { return p.ram.Accept(gpa, length) }

// Deny takes all permissions on a range of RAM from the guest.
func (p *Partition) Deny(gpa x86.GPA, length uint64) error { return p.ram.Permit(gpa, length, false) }

// Allow undoes Deny.
func (p *Partition) Allow(gpa x86.GPA, length uint64) error { return p.ram.Permit(gpa, length, true) }

// pages is what SNP does to a page.
type pages struct{ p *Partition }

var _ private.TEE = pages{}

func sizeOf(large bool) uint8 {
	if large {
		return snp.RMP_PG_SIZE_2M
	}
	return snp.RMP_PG_SIZE_4K
}

// Accept asks the host for a private page and validates it.
func (p pages) Accept(gpa x86.GPA, large bool) error {
	if err := p.p.gate.Ask(hcl.HostAccept); err != nil {
		return err
	}
	if err := p.p.hw.PageState(gpa, sizeOf(large), true); err != nil {
		return fmt.Errorf("%w: %w", ErrHost, err)
	}
	return p.validate(gpa, sizeOf(large))
}

// Permit sets the permissions of the guest's VMPL.
func (p pages) Permit(gpa x86.GPA, large, all bool) error {
	permissions := uint8(0)
	if all {
		permissions = snp.RMP_RWX
	}
	return p.adjust(gpa, sizeOf(large), permissions)
}

// validate validates a page, once in the guest's life: a second time would let the host
// show one of two pages at the same address (§15.36.6).
func (p pages) validate(gpa x86.GPA, size uint8) error {
	code, unchanged, err := p.p.hw.PValidate(gpa, size, true)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrHost, err)
	case code == snp.RMP_FAIL_SIZEMISMATCH && size == snp.RMP_PG_SIZE_2M:
		return private.ErrSize
	case code != snp.RMP_SUCCESS:
		return fmt.Errorf("%w: PVALIDATE of %#x: %w, code %d", ErrMemory, gpa, errRefused, code)
	case unchanged:
		return fmt.Errorf("%w: %#x is validated already", ErrHost, gpa)
	}
	return nil
}

// adjust sets what the guest may do with a page.
func (p pages) adjust(gpa x86.GPA, size, permissions uint8) error {
	code, err := p.p.hw.RMPAdjust(gpa, size, VMPL, permissions, false)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrHost, err)
	case code != snp.RMP_SUCCESS:
		return fmt.Errorf("%w: RMPADJUST of %#x: %w, code %d", ErrMemory, gpa, errRefused, code)
	}
	return nil
}
