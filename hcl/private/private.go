// Package private keeps what Keel knows of the guest's private memory beneath a TEE: which
// pages it has accepted, each once in the guest's life, and which it denies the guest. The
// host cannot change that: what it does to a page shows by an access that faults although
// this allows it.
package private

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"keel/hcl/abi/x86"
)

var (
	// ErrMemory is the stage of what concerns memory.
	ErrMemory = errors.New("private memory of the guest")
	// ErrHost says that the host took a page away, or gave another one for it. The
	// guest cannot go on.
	ErrHost = errors.New("the host has changed the guest's private memory")
	// ErrSize says that the TEE holds 2 MiB in pages of 4 KiB.
	ErrSize = fmt.Errorf("%w: sizes differ", ErrMemory)
)

// TEE is what a TEE does to one page, of 2 MiB if it is large, else of 4 KiB.
type TEE interface {
	// Accept makes a page the guest's. On ErrSize, for a large one only, nothing has
	// been accepted. A page that was accepted before is ErrHost.
	Accept(gpa x86.GPA, large bool) error
	// Permit gives the guest all permissions on a page, or none.
	Permit(gpa x86.GPA, large, all bool) error
}

// State is what Keel knows of a page.
type State uint8

// The states.
const (
	Fresh    State = iota // not accepted
	Accepted              // the guest has all permissions
	Denied                // accepted, the guest has none
	Broken                // accepting it failed half-way: it is never tried again
)

const (
	pagesPerRegion = x86.LargePageSize / x86.PageSize
	regionMask     = x86.LargePageSize - 1
)

// Memory is all RAM of a guest. Any goroutine may call its methods.
type Memory struct {
	tee TEE

	mu  sync.Mutex // orders changes of the memory's state
	ram []*ram
	// epoch changes with the memory's state: a fault that is older may be out of date.
	epoch               atomic.Uint64
	large, small, stale atomic.Uint64
}

// ram is a range of it.
type ram struct {
	first x86.GPA
	pages []State
	bytes []byte // Keel's mapping
}

// New returns memory of a TEE, none yet.
func New(tee TEE) *Memory { return &Memory{tee: tee} }

func (r *ram) end() x86.GPA { return r.first + x86.GPA(len(r.pages))*x86.PageSize }

// at returns the state of a page. Preconditions: the page lies in r.
func (r *ram) at(gpa x86.GPA) *State { return &r.pages[(gpa-r.first)>>x86.PageShift] }

// find returns the range at an address, or nil.
// Preconditions: mu is held.
func (m *Memory) find(gpa x86.GPA) *ram {
	for _, r := range m.ram {
		if gpa >= r.first && gpa < r.end() {
			return r
		}
	}
	return nil
}

// maxRange bounds addresses: those that a processor has.
const maxRange = 1 << 52

// WholePages checks a range. Its error is ErrMemory.
func WholePages(gpa x86.GPA, length uint64) error {
	if (uint64(gpa)|length)%x86.PageSize != 0 || length == 0 || length > maxRange || uint64(gpa) > maxRange-length {
		return fmt.Errorf("%w: %#x+%#x is not whole pages", ErrMemory, gpa, length)
	}
	return nil
}

// Add makes b, Keel's mapping of it, RAM below the address limit, once place has put it
// there.
func (m *Memory) Add(gpa x86.GPA, b []byte, limit x86.GPA, place func(gpa x86.GPA, b []byte) error) error {
	if err := WholePages(gpa, uint64(len(b))); err != nil {
		return err
	}
	end := gpa + x86.GPA(len(b))
	if end > limit {
		return fmt.Errorf("%w: %#x+%#x lies beyond the private memory, which ends at %#x", ErrMemory, gpa, len(b), limit)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.ram {
		if gpa < r.end() && r.first < end {
			return fmt.Errorf("%w: %#x+%#x: there is memory at %#x", ErrMemory, gpa, len(b), r.first)
		}
	}
	if err := place(gpa, b); err != nil {
		return fmt.Errorf("%w: %w", ErrMemory, err)
	}
	m.ram = append(m.ram, &ram{first: gpa, pages: make([]State, len(b)/x86.PageSize), bytes: b})
	return nil
}

// Accept makes a range of RAM the guest's own, as far as it is not yet. Pages that were
// denied stay so.
func (m *Memory) Accept(gpa x86.GPA, length uint64) error { return m.each(gpa, length, m.acceptAround) }

// Permit gives the guest all permissions on a range of RAM, or none.
func (m *Memory) Permit(gpa x86.GPA, length uint64, all bool) error {
	to := Denied
	if all {
		to = Accepted
	}
	return m.each(gpa, length, func(r *ram, page x86.GPA) error {
		if err := m.acceptAround(r, page); err != nil {
			return err
		}
		state := r.at(page)
		if *state == to {
			return nil
		}
		if err := m.tee.Permit(page, false, all); err != nil {
			return err
		}
		*state = to
		return nil
	})
}

// each calls do for every page of a range of RAM.
func (m *Memory) each(gpa x86.GPA, length uint64, do func(r *ram, page x86.GPA) error) error {
	if err := WholePages(gpa, length); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.epoch.Add(1)
	for end := gpa + x86.GPA(length); gpa < end; gpa += x86.PageSize {
		r := m.find(gpa)
		if r == nil {
			return fmt.Errorf("%w: none at %#x", ErrMemory, gpa)
		}
		if err := do(r, gpa); err != nil {
			return err
		}
	}
	return nil
}

// acceptAround accepts a page that is fresh, with its whole 2 MiB, as far as they are
// fresh too: one large page if the host plays along, else page by page.
// Preconditions: mu is held.
func (m *Memory) acceptAround(r *ram, page x86.GPA) error {
	switch *r.at(page) {
	case Accepted, Denied:
		return nil
	case Broken:
		return fmt.Errorf("%w: %#x could not be accepted before", ErrMemory, page)
	case Fresh:
	}
	first := max(page&^regionMask, r.first)
	end := min(page&^regionMask+x86.LargePageSize, r.end())
	run := r.pages[(first-r.first)>>x86.PageShift : (end-r.first)>>x86.PageShift]
	if len(run) == pagesPerRegion && allFresh(run) {
		done, err := m.acceptLarge(first, run)
		if done || err != nil {
			return err
		}
	}
	for i := range run {
		if run[i] != Fresh {
			continue
		}
		run[i] = Broken
		if err := m.accept(first+x86.GPA(i)*x86.PageSize, false); err != nil {
			return err
		}
		run[i] = Accepted
		m.small.Add(1)
	}
	return nil
}

// acceptLarge accepts 2 MiB at once. It returns false, with nothing accepted, where the
// TEE holds them in pages of 4 KiB.
func (m *Memory) acceptLarge(gpa x86.GPA, run []State) (done bool, err error) {
	switch err := m.accept(gpa, true); {
	case errors.Is(err, ErrSize):
		return false, nil
	case err != nil:
		fill(run, Broken)
		return false, err
	}
	fill(run, Accepted)
	m.large.Add(1)
	return true, nil
}

func (m *Memory) accept(gpa x86.GPA, large bool) error {
	if err := m.tee.Accept(gpa, large); err != nil {
		return err
	}
	return m.tee.Permit(gpa, large, true)
}

func allFresh(run []State) bool {
	for _, s := range run {
		if s != Fresh {
			return false
		}
	}
	return true
}

func fill(run []State, s State) {
	for i := range run {
		run[i] = s
	}
}

// Epoch is for Fault: what it is before the guest is entered.
func (m *Memory) Epoch() uint64 { return m.epoch.Load() }

// Fault handles an access of the guest's that faulted. It returns false where the address
// is no RAM, or denied; else the guest goes on, with its page accepted, unless there is
// an error: ErrHost where the page was the guest's already.
func (m *Memory) Fault(gpa x86.GPA, epoch uint64) (ours bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.find(gpa)
	if r == nil {
		return false, nil
	}
	switch *r.at(gpa) {
	case Fresh, Broken:
		err := m.acceptAround(r, gpa&^(x86.PageSize-1))
		m.epoch.Add(1)
		return true, err
	case Accepted:
		if m.epoch.Load() == epoch {
			return true, fmt.Errorf("%w: %#x", ErrHost, gpa)
		}
		m.stale.Add(1)
		return true, nil
	case Denied:
	}
	return false, nil
}

// Bytes returns RAM that the guest may use, within a page, and accepts it; nil where there
// is none.
func (m *Memory) Bytes(gpa x86.GPA, n int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.find(gpa)
	if r == nil || *r.at(gpa) == Denied || uint64(n) > x86.PageSize-uint64(gpa)%x86.PageSize {
		return nil, nil
	}
	if err := m.acceptAround(r, gpa&^(x86.PageSize-1)); err != nil {
		return nil, err
	}
	m.epoch.Add(1) // another VP may have met the page before
	return r.bytes[gpa-r.first:][:n:n], nil
}

// State returns what is known of a page, false where there is no RAM.
func (m *Memory) State(gpa x86.GPA) (State, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.find(gpa)
	if r == nil {
		return Fresh, false
	}
	return *r.at(gpa), true
}

// Stats returns how many pages were accepted, of 2 MiB and of 4 KiB, and how many faults
// another VP had settled meanwhile.
func (m *Memory) Stats() (large, small, stale uint64) {
	return m.large.Load(), m.small.Load(), m.stale.Load()
}
