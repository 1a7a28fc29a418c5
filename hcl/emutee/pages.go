package emutee

import (
	"fmt"

	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
)

// PValidate is PVALIDATE of the paravisor.
func (m *Machine) PValidate(gpa x86.GPA, size uint8, validate bool) (code uint32, unchanged bool, err error) {
	res, err := m.instruction(gpa, size, func() Result { return m.rmp.PValidate(snp.VMPL0, gpa, PageSize(size), validate) })
	return res.Code, res.Unchanged, err
}

// RMPAdjust is RMPADJUST of the paravisor.
func (m *Machine) RMPAdjust(gpa x86.GPA, size, vmpl, permissions uint8, vmsa bool) (code uint32, err error) {
	res, err := m.instruction(gpa, size, func() Result {
		return m.rmp.RMPAdjust(snp.VMPL0, gpa, PageSize(size), vmpl, permissions, vmsa)
	})
	if vmsa && err == nil && res.OK() {
		m.renew(gpa)
	}
	return res.Code, err
}

// instruction carries out an instruction on the RMP and denies or allows the page. The
// host splits an entry that is too large, and lets the instruction try again (table
// 15-40).
func (m *Machine) instruction(gpa x86.GPA, size uint8, do func() Result) (Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, _ := m.rmp.Reach(gpa, GuestVMPL)
	res := do()
	if res.Fault.Kind == FaultNPF && res.Fault.Code&snp.NPF_SIZEM != 0 {
		m.rmp.PSmash(gpa &^ (x86.LargePageSize - 1))
		res = do()
	}
	if !res.Fault.OK() {
		return res, fmt.Errorf("%w: at %#x, code %#x", ErrFault, gpa, res.Fault.Code)
	}
	after, _ := m.rmp.Reach(gpa, GuestVMPL)
	if before == after {
		return res, nil
	}
	return res, m.apply(gpa&^(x86.PageSize-1), lengthOf(size), after)
}

// apply lets the guest at a range, or denies it.
// Preconditions: mu is held.
func (m *Machine) apply(gpa x86.GPA, length uint64, r Reach) error {
	if r == ReachAll {
		return m.raw.Allow(gpa, length)
	}
	return m.raw.Deny(gpa, length)
}

// PageState asks the host for a page of the guest's own, or gives it one.
func (m *Machine) PageState(gpa x86.GPA, size uint8, private bool) error {
	change := uint64(gpa)>>x86.PageShift<<snp.PSC_GFN_SHIFT | snp.PSC_OP_SHARED<<snp.PSC_OP_SHIFT
	if private {
		change = change&^(snp.PSC_OP_MASK<<snp.PSC_OP_SHIFT) | snp.PSC_OP_PRIVATE<<snp.PSC_OP_SHIFT
	}
	if size == snp.RMP_PG_SIZE_2M {
		change |= snp.PSC_SIZE_2M
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if length := x86.GPA(lengthOf(size)); !m.isRAM(gpa) || !m.isRAM(gpa+length-1) {
		return fmt.Errorf("%w: page state change of %#x: no memory", ErrMachine, gpa)
	}
	return m.change(gpa, size, func() error {
		if code := m.rmp.PageStateChange(change); code != 0 {
			return fmt.Errorf("%w: page state change of %#x: error %#x", ErrMachine, gpa, code)
		}
		return nil
	})
}

// change carries out what the host does to a page or a region, and denies what the
// guest has lost by it. A host cannot give the guest what it has not validated.
// Preconditions: mu is held.
func (m *Machine) change(gpa x86.GPA, size uint8, do func() error) error {
	var reached [pagesPerRegion]bool
	n := x86.GPA(lengthOf(size) / x86.PageSize)
	for i := range n {
		r, _ := m.rmp.Reach(gpa+i*x86.PageSize, GuestVMPL)
		reached[i] = r == ReachAll
	}
	err := do()
	for i := range n {
		page := gpa + i*x86.PageSize
		if r, _ := m.rmp.Reach(page, GuestVMPL); reached[i] && r != ReachAll {
			if e := m.raw.Deny(page, x86.PageSize); e != nil {
				return e
			}
		}
	}
	return err
}

// Swap is what a hostile host does: it takes a page of the guest's away and gives it
// another one at the same address. Validated is lost. The content stays here.
func (m *Machine) Swap(gpa x86.GPA) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.change(gpa, snp.RMP_PG_SIZE_4K, func() error {
		for _, to := range []Owner{OwnerHost, OwnerGuest} {
			if code := m.rmp.assign(gpa, snp.RMP_PG_SIZE_4K, to); code != snp.RMP_SUCCESS {
				return fmt.Errorf("%w: RMPUPDATE of %#x: code %d", ErrMachine, gpa, code)
			}
		}
		return nil
	})
}

// isRAM tells whether memory of the guest lies at an address.
// Preconditions: mu is held.
func (m *Machine) isRAM(gpa x86.GPA) bool { return anyHas(m.ram, gpa) }

func lengthOf(size uint8) uint64 {
	if size == snp.RMP_PG_SIZE_2M {
		return x86.LargePageSize
	}
	return x86.PageSize
}
