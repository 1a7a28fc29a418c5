package tdx

import (
	"fmt"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/private"
	"keel/hcl/tdx/l2"
)

// Accept makes a range of RAM the guest's own, as far as it is not yet: Keel must not
// touch a page before. Pages that were denied stay so.
func (p *Partition) Accept(gpa x86.GPA, length uint64) error { return p.ram.Accept(gpa, length) }

// Deny takes all attributes of a range of RAM from the guest. When it returns, no VP
// uses a translation from before.
func (p *Partition) Deny(gpa x86.GPA, length uint64) error {
	err := p.ram.Permit(gpa, length, false)
	p.flush()
	return err
}

// Allow undoes Deny.
func (p *Partition) Allow(gpa x86.GPA, length uint64) error { return p.ram.Permit(gpa, length, true) }

// flush makes every VP forget the translations of guest-physical addresses, and waits for
// those that run until they have left the guest (TD Partitioning, "L2 TLB Invalidation").
func (p *Partition) flush() {
	p.mu.Lock()
	vps := p.vps
	p.mu.Unlock()
	for _, vp := range vps {
		vp.stale.Store(true)
		if !vp.running.TryLock() {
			vp.Kick()
			vp.running.Lock()
		}
		vp.running.Unlock()
	}
}

// pages is what a TD does to a page.
type pages struct{ p *Partition }

var _ private.TEE = pages{}

func levelOf(large bool) (level, size uint64) {
	if large {
		return tdx.LEVEL_2M, x86.LargePageSize
	}
	return tdx.LEVEL_4K, x86.PageSize
}

// Accept asks the host for a private page and accepts it.
func (p pages) Accept(gpa x86.GPA, large bool) error {
	level, size := levelOf(large)
	if err := p.p.gate.Ask(hcl.HostAccept); err != nil {
		return err
	}
	if err := p.p.hw.MapGPA(gpa, size, true); err != nil {
		return fmt.Errorf("%w: %w", ErrHost, err)
	}
	return p.accept(gpa, level)
}

// Permit sets the attributes of the guest's VM.
func (p pages) Permit(gpa x86.GPA, large, all bool) error {
	attributes := uint64(0)
	if all {
		attributes = tdx.GPA_ATTR_RWX
	}
	level, _ := levelOf(large)
	return p.attribute(gpa, level, attributes)
}

// accept accepts a page, once in the guest's life: a second time would let the host give
// another page, which is empty, for one that the guest has used.
func (p pages) accept(gpa x86.GPA, level uint64) error {
	r, err := p.p.call(l2.Registers{RAX: tdx.TDG_MEM_PAGE_ACCEPT, RCX: uint64(gpa) | level})
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrHost, err)
	case r.RAX == tdx.STATUS_SUCCESS:
		return nil
	case status(r.RAX) == tdx.STATUS_PAGE_SIZE_MISMATCH && level == tdx.LEVEL_2M:
		return private.ErrSize
	case status(r.RAX) == tdx.STATUS_PAGE_ALREADY_ACCEPTED:
		return fmt.Errorf("%w: %#x is accepted already", ErrHost, gpa)
	}
	return fmt.Errorf("%w: TDG.MEM.PAGE.ACCEPT of %#x: %w, status %#x", ErrMemory, gpa, errRefused, r.RAX)
}

// attribute sets what the guest may do with a page: all that GPA_ATTR_RWX has, or nothing.
func (p pages) attribute(gpa x86.GPA, level, attributes uint64) error {
	const at = VM * tdx.GPA_ATTR_BITS
	in := l2.Registers{
		RAX: tdx.TDG_MEM_PAGE_ATTR_WR, RCX: uint64(gpa) | level,
		RDX: (attributes | tdx.GPA_ATTR_VALID) << at, R8: tdx.GPA_ATTR_RWX << at,
	}
	if attributes == 0 {
		in.R8 |= tdx.GPA_ATTR_INVEPT << at
	}
	r, err := p.p.call(in)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrHost, err)
	case r.RAX != tdx.STATUS_SUCCESS:
		return fmt.Errorf("%w: TDG.MEM.PAGE.ATTR.WR of %#x: %w, status %#x", ErrMemory, gpa, errRefused, r.RAX)
	}
	return nil
}

// read copies bytes of the guest's RAM, which must not cross a page. It returns false
// where there is none, or none that the guest may use.
func (p *Partition) read(gpa x86.GPA, b []byte) (bool, error) {
	from, err := p.ram.Bytes(gpa, len(b))
	if err != nil || from == nil {
		return false, err
	}
	return copy(b, from) == len(b), nil
}
