package tdxmodule

import (
	"fmt"

	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
)

// maxHelp bounds what a host has to do for one call: block a page of 1 GiB and split it,
// likewise one of 2 MiB, and add what is missing.
const maxHelp = 4

// Call is TDCALL of the paravisor, of a leaf that asks for no VP. Where it meets a page
// that only the host can change, an honest host does, and the call is made again.
func (m *Machine) Call(r *l2.Registers) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	gpa, level := x86.GPA(r.RCX&tdx.GPA_PAGE_MASK), Level(r.RCX&tdx.PAGE_LEVEL_MASK)
	before, _ := m.td.Reach(gpa, GuestVM)
	changes := false
	switch r.RAX {
	case tdx.TDG_MEM_PAGE_ACCEPT, tdx.TDG_MEM_PAGE_ATTR_WR:
		changes = level < tdx.LEVELS
	}
	var memory GuestMemory
	if m.config.Clear {
		memory = (*contents)(m)
	}
	for range maxHelp {
		again := *r
		called, err := m.td.Call(&again, memory)
		switch {
		case err != nil:
			return err
		case called.Outcome == OutcomeReturn:
			*r = again
			after, _ := m.td.Reach(gpa, GuestVM)
			if !changes || before == after {
				return nil
			}
			return m.apply(gpa, 1<<shiftOf(level), after)
		case !m.help(gpa, level):
			return fmt.Errorf("%w: leaf %d on %#x: %+v", ErrFault, r.RAX, gpa, called.Fault)
		}
	}
	return fmt.Errorf("%w: leaf %d on %#x", ErrFault, r.RAX, gpa)
}

// help is what an honest host does about a call on a page that is missing, or part of a
// larger one. It returns false where it can do nothing.
// Preconditions: mu is held.
func (m *Machine) help(gpa x86.GPA, level Level) bool {
	if level >= tdx.LEVELS {
		return false
	}
	page := m.td.Page(gpa)
	start := gpa &^ (1<<shiftOf(page.Level) - 1)
	length := uint64(1) << shiftOf(level)
	switch {
	case page.Level > level && page.State != tdx.SEPT_FREE:
		m.td.RangeBlock(operand(start, page.Level))
		return m.td.PageDemote(operand(start, page.Level)) == tdx.STATUS_SUCCESS
	case m.isRAM(gpa) && m.isRAM(gpa+x86.GPA(length)-1) && page.State == tdx.SEPT_FREE:
		return m.td.Give(gpa, length) == tdx.STATUS_SUCCESS
	}
	return false
}

// apply lets the guest at a range, or denies it.
// Preconditions: mu is held.
func (m *Machine) apply(gpa x86.GPA, length uint64, r Reach) error {
	if r == ReachAll {
		return m.raw.Allow(gpa, length)
	}
	return m.raw.Deny(gpa, length)
}

// MapGPA asks the host for pages of the TD's own, or gives it some (GHCI,
// "TDG.VP.VMCALL<MapGPA>").
func (m *Machine) MapGPA(gpa x86.GPA, length uint64, private bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if (uint64(gpa)|length)%x86.PageSize != 0 || length == 0 || gpa+x86.GPA(length) < gpa {
		return fmt.Errorf("%w: MapGPA of %#x+%#x: not whole pages", ErrMachine, gpa, length)
	}
	if a := areaAt(m.ram, gpa); a == nil || gpa+x86.GPA(length) > a.end {
		return fmt.Errorf("%w: MapGPA of %#x+%#x: no memory", ErrMachine, gpa, length)
	}
	do := m.td.Take
	if private {
		do = m.td.Give
	}
	return m.change(gpa, length, do)
}

// change carries out what the host does to a range, and denies what the guest has lost by
// it. A host cannot give the guest what L1 has not accepted.
// Preconditions: mu is held.
func (m *Machine) change(gpa x86.GPA, length uint64, do func(gpa x86.GPA, length uint64) uint64) error {
	reached := make([]bool, length/x86.PageSize)
	for i := range reached {
		r, _ := m.td.Reach(gpa+x86.GPA(i)*x86.PageSize, GuestVM)
		reached[i] = r == ReachAll
	}
	status := do(gpa, length)
	for i := range reached {
		page := gpa + x86.GPA(i)*x86.PageSize
		if r, _ := m.td.Reach(page, GuestVM); reached[i] && r != ReachAll {
			if err := m.raw.Deny(page, x86.PageSize); err != nil {
				return err
			}
		}
	}
	if status != tdx.STATUS_SUCCESS {
		return fmt.Errorf("%w: host's change of %#x+%#x: status %#x", ErrMachine, gpa, length, status)
	}
	return nil
}

// Swap is what a hostile host does: it takes a page of the guest's away and gives it
// another one at the same address, which waits to be accepted. The content stays here.
func (m *Machine) Swap(gpa x86.GPA) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.change(gpa, x86.PageSize, func(gpa x86.GPA, length uint64) uint64 {
		if status := m.td.Take(gpa, length); status != tdx.STATUS_SUCCESS {
			return status
		}
		return m.td.Give(gpa, length)
	})
}

// isRAM tells whether memory of the guest lies at an address.
// Preconditions: mu is held.
func (m *Machine) isRAM(gpa x86.GPA) bool { return areaAt(m.ram, gpa) != nil }

// bytes returns the memory of the TD at an address, or nil where it is not all there.
// Preconditions: mu is held.
func (m *Machine) bytes(gpa x86.GPA, n int) []byte {
	own := m.ownArea()
	a := &own
	if !own.has(gpa) {
		if a = areaAt(m.ram, gpa); a == nil {
			return nil
		}
	}
	if b := a.bytes[gpa-a.first:]; n <= len(b) {
		return b[:n:n]
	}
	return nil
}

// contents is the memory of a machine for calls whose operands lie there.
// Preconditions of its methods: mu is held.
type contents Machine

var _ GuestMemory = (*contents)(nil)

func (c *contents) at(gpa x86.GPA, n int) ([]byte, error) {
	if b := (*Machine)(c).bytes(gpa, n); b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("%w: %#x+%#x: none", ErrMachine, gpa, n)
}

// Read copies from memory.
func (c *contents) Read(gpa x86.GPA, b []byte) error {
	from, err := c.at(gpa, len(b))
	copy(b, from)
	return err
}

// Write copies into memory.
func (c *contents) Write(gpa x86.GPA, b []byte) error {
	to, err := c.at(gpa, len(b))
	copy(to, b)
	return err
}

// Clear zeroes memory.
func (c *contents) Clear(gpa x86.GPA, length uint64) error {
	b, err := c.at(gpa, int(length))
	clear(b)
	return err
}
