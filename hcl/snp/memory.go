package snp

import (
	"errors"
	"fmt"

	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

const (
	pagesPerRegion = x86.LargePageSize / x86.PageSize
	regionMask     = x86.LargePageSize - 1
)

// pageState is what Keel knows of a page of the guest's. The host cannot change it:
// what it does to a page shows by an access that faults although this allows it.
type pageState uint8

const (
	pageFresh    pageState = iota // not accepted
	pageAccepted                  // validated, the guest's VMPL has all permissions
	pageDenied                    // validated, the guest's VMPL has none
	pageBroken                    // accepting it failed half-way: it is never tried again
)

// memory is a range of the guest's RAM.
type memory struct {
	first x86.GPA
	pages []pageState
}

func newMemory(first x86.GPA, length uint64) *memory {
	return &memory{first: first, pages: make([]pageState, length/x86.PageSize)}
}

func (m *memory) end() x86.GPA { return m.first + x86.GPA(len(m.pages))*x86.PageSize }

// at returns the state of a page. Preconditions: the page lies in m.
func (m *memory) at(gpa x86.GPA) *pageState { return &m.pages[(gpa-m.first)>>x86.PageShift] }

// find returns the memory at an address, or nil.
// Preconditions: mu is held.
func (p *Partition) find(gpa x86.GPA) *memory {
	for _, m := range p.ram {
		if gpa >= m.first && gpa < m.end() {
			return m
		}
	}
	return nil
}

// Accept makes a range of RAM the guest's own, as far as it is not yet: Keel must not
// touch a page before. Pages that were denied stay so.
func (p *Partition) Accept(gpa x86.GPA, length uint64) error {
	return p.each(gpa, length, func(m *memory, page x86.GPA) error { return p.acceptAround(m, page) })
}

// Deny takes all permissions on a range of RAM from the guest.
func (p *Partition) Deny(gpa x86.GPA, length uint64) error { return p.permit(gpa, length, false) }

// Allow undoes Deny.
func (p *Partition) Allow(gpa x86.GPA, length uint64) error { return p.permit(gpa, length, true) }

func (p *Partition) permit(gpa x86.GPA, length uint64, on bool) error {
	to, permissions := pageDenied, uint8(0)
	if on {
		to, permissions = pageAccepted, snp.RMP_RWX
	}
	return p.each(gpa, length, func(m *memory, page x86.GPA) error {
		if err := p.acceptAround(m, page); err != nil {
			return err
		}
		state := m.at(page)
		if *state == to {
			return nil
		}
		if err := p.adjust(page, snp.RMP_PG_SIZE_4K, permissions); err != nil {
			return err
		}
		*state = to
		return nil
	})
}

// each calls do for every page of a range of RAM.
func (p *Partition) each(gpa x86.GPA, length uint64, do func(m *memory, page x86.GPA) error) error {
	if err := wholePages(gpa, length); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.epoch.Add(1)
	for end := gpa + x86.GPA(length); gpa < end; gpa += x86.PageSize {
		m := p.find(gpa)
		if m == nil {
			return fmt.Errorf("%w: none at %#x", ErrMemory, gpa)
		}
		if err := do(m, gpa); err != nil {
			return err
		}
	}
	return nil
}

// acceptAround accepts a page that is fresh, with its whole 2 MiB, as far as they are
// fresh too: one large entry if the host plays along, else page by page.
// Preconditions: mu is held.
func (p *Partition) acceptAround(m *memory, page x86.GPA) error {
	switch *m.at(page) {
	case pageAccepted, pageDenied:
		return nil
	case pageBroken:
		return fmt.Errorf("%w: %#x could not be accepted before", ErrMemory, page)
	case pageFresh:
	}
	first := max(page&^regionMask, m.first)
	end := min(page&^regionMask+x86.LargePageSize, m.end())
	run := m.pages[(first-m.first)>>x86.PageShift : (end-m.first)>>x86.PageShift]
	if len(run) == pagesPerRegion && allFresh(run) {
		done, err := p.acceptLarge(first, run)
		if done || err != nil {
			return err
		}
	}
	for i := range run {
		if run[i] != pageFresh {
			continue
		}
		run[i] = pageBroken
		if err := p.acceptSmall(first + x86.GPA(i)*x86.PageSize); err != nil {
			return err
		}
		run[i] = pageAccepted
		p.stats.add(countSmall)
	}
	return nil
}

func allFresh(run []pageState) bool {
	for _, s := range run {
		if s != pageFresh {
			return false
		}
	}
	return true
}

// acceptLarge accepts 2 MiB at once. It returns false, with nothing validated, where the
// RMP holds them in pages of 4 KiB.
func (p *Partition) acceptLarge(gpa x86.GPA, run []pageState) (done bool, err error) {
	if err := p.hw.PageState(gpa, snp.RMP_PG_SIZE_2M, true); err != nil {
		return false, fmt.Errorf("%w: %w", ErrHost, err)
	}
	switch err := p.validate(gpa, snp.RMP_PG_SIZE_2M); {
	case errors.Is(err, errSize):
		return false, nil
	case err != nil:
		fill(run, pageBroken)
		return false, err
	}
	if err := p.adjust(gpa, snp.RMP_PG_SIZE_2M, snp.RMP_RWX); err != nil {
		fill(run, pageBroken)
		return false, err
	}
	fill(run, pageAccepted)
	p.stats.add(countLarge)
	return true, nil
}

func fill(run []pageState, s pageState) {
	for i := range run {
		run[i] = s
	}
}

func (p *Partition) acceptSmall(gpa x86.GPA) error {
	if err := p.hw.PageState(gpa, snp.RMP_PG_SIZE_4K, true); err != nil {
		return fmt.Errorf("%w: %w", ErrHost, err)
	}
	if err := p.validate(gpa, snp.RMP_PG_SIZE_4K); err != nil {
		return err
	}
	return p.adjust(gpa, snp.RMP_PG_SIZE_4K, snp.RMP_RWX)
}

// errSize says that the RMP holds a page in another size.
var errSize = fmt.Errorf("%w: sizes differ", ErrMemory)

// validate validates a page, once in the guest's life: a second time would let the host
// show one of two pages at the same address (§15.36.6).
func (p *Partition) validate(gpa x86.GPA, size uint8) error {
	code, unchanged, err := p.hw.PValidate(gpa, size, true)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrHost, err)
	case code == snp.RMP_FAIL_SIZEMISMATCH && size == snp.RMP_PG_SIZE_2M:
		return errSize
	case code != snp.RMP_SUCCESS:
		return fmt.Errorf("%w: PVALIDATE of %#x: %w, code %d", ErrMemory, gpa, errRefused, code)
	case unchanged:
		return fmt.Errorf("%w: %#x is validated already", ErrHost, gpa)
	}
	return nil
}

// adjust sets what the guest may do with a page.
func (p *Partition) adjust(gpa x86.GPA, size, permissions uint8) error {
	code, err := p.hw.RMPAdjust(gpa, size, VMPL, permissions, false)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrHost, err)
	case code != snp.RMP_SUCCESS:
		return fmt.Errorf("%w: RMPADJUST of %#x: %w, code %d", ErrMemory, gpa, errRefused, code)
	}
	return nil
}
