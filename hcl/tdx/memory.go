package tdx

import (
	"errors"
	"fmt"

	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
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
	pageAccepted                  // the guest has all attributes
	pageDenied                    // accepted, the guest has none
	pageBroken                    // accepting it failed half-way: it is never tried again
)

// memory is a range of the guest's RAM.
type memory struct {
	first x86.GPA
	pages []pageState
	bytes []byte // Keel's mapping
}

func newMemory(first x86.GPA, b []byte) *memory {
	return &memory{first: first, pages: make([]pageState, len(b)/x86.PageSize), bytes: b}
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

// Deny takes all attributes of a range of RAM from the guest. When it returns, no VP
// uses a translation from before.
func (p *Partition) Deny(gpa x86.GPA, length uint64) error {
	err := p.permit(gpa, length, false)
	p.flush()
	return err
}

// Allow undoes Deny.
func (p *Partition) Allow(gpa x86.GPA, length uint64) error { return p.permit(gpa, length, true) }

func (p *Partition) permit(gpa x86.GPA, length uint64, on bool) error {
	to, attributes := pageDenied, uint64(0)
	if on {
		to, attributes = pageAccepted, tdx.GPA_ATTR_RWX
	}
	return p.each(gpa, length, func(m *memory, page x86.GPA) error {
		if err := p.acceptAround(m, page); err != nil {
			return err
		}
		state := m.at(page)
		if *state == to {
			return nil
		}
		if err := p.attribute(page, tdx.LEVEL_4K, attributes); err != nil {
			return err
		}
		*state = to
		return nil
	})
}

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
// fresh too: one large page if the host plays along, else page by page.
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

// acceptLarge accepts 2 MiB at once. It returns false, with nothing accepted, where the
// host has added them in pages of 4 KiB.
func (p *Partition) acceptLarge(gpa x86.GPA, run []pageState) (done bool, err error) {
	if err := p.hw.MapGPA(gpa, x86.LargePageSize, true); err != nil {
		return false, fmt.Errorf("%w: %w", ErrHost, err)
	}
	switch err := p.accept(gpa, tdx.LEVEL_2M); {
	case errors.Is(err, errSize):
		return false, nil
	case err != nil:
		fill(run, pageBroken)
		return false, err
	}
	if err := p.attribute(gpa, tdx.LEVEL_2M, tdx.GPA_ATTR_RWX); err != nil {
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
	if err := p.hw.MapGPA(gpa, x86.PageSize, true); err != nil {
		return fmt.Errorf("%w: %w", ErrHost, err)
	}
	if err := p.accept(gpa, tdx.LEVEL_4K); err != nil {
		return err
	}
	return p.attribute(gpa, tdx.LEVEL_4K, tdx.GPA_ATTR_RWX)
}

// errSize says that the TD has a page in another size.
var errSize = fmt.Errorf("%w: sizes differ", ErrMemory)

// accept accepts a page, once in the guest's life: a second time would let the host give
// another page, which is empty, for one that the guest has used.
func (p *Partition) accept(gpa x86.GPA, level uint64) error {
	r, err := p.call(l2.Registers{RAX: tdx.TDG_MEM_PAGE_ACCEPT, RCX: uint64(gpa) | level})
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrHost, err)
	case r.RAX == tdx.STATUS_SUCCESS:
		return nil
	case status(r.RAX) == tdx.STATUS_PAGE_SIZE_MISMATCH && level == tdx.LEVEL_2M:
		return errSize
	case status(r.RAX) == tdx.STATUS_PAGE_ALREADY_ACCEPTED:
		return fmt.Errorf("%w: %#x is accepted already", ErrHost, gpa)
	}
	return fmt.Errorf("%w: TDG.MEM.PAGE.ACCEPT of %#x: %w, status %#x", ErrMemory, gpa, errRefused, r.RAX)
}

// attribute sets what the guest may do with a page: all that GPA_ATTR_RWX has, or nothing.
func (p *Partition) attribute(gpa x86.GPA, level, attributes uint64) error {
	const at = VM * tdx.GPA_ATTR_BITS
	in := l2.Registers{
		RAX: tdx.TDG_MEM_PAGE_ATTR_WR, RCX: uint64(gpa) | level,
		RDX: (attributes | tdx.GPA_ATTR_VALID) << at, R8: tdx.GPA_ATTR_RWX << at,
	}
	if attributes == 0 {
		in.R8 |= tdx.GPA_ATTR_INVEPT << at
	}
	r, err := p.call(in)
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
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.find(gpa)
	if m == nil || *m.at(gpa) == pageDenied {
		return false, nil
	}
	if err := p.acceptAround(m, pageOf(gpa)); err != nil {
		return false, err
	}
	p.epoch.Add(1) // another VP may have met the page before
	return copy(b, m.bytes[gpa-m.first:]) == len(b), nil
}

// pageOf is the start of the page of an address.
func pageOf(gpa x86.GPA) x86.GPA { return gpa &^ (x86.PageSize - 1) }
