package tdxmodule

import (
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// The host's functions take a page and its level as RCX, like those of L1, and return a
// status (ABI, "Host-Side (SEAMCALL) Interface Functions"). Those that need a table of
// their own take one for granted.

// step is one host function's work on an entry at the level it asked for. It returns the
// new entry, or a status without operand.
type step func(t *TD, gpa x86.GPA, at Level, e entry) (entry, uint64)

// host finds the entry and lets a step change it.
func (t *TD) host(rcx uint64, lowest, highest Level, do step) uint64 {
	gpa, level, ok := t.pageInfo(rcx, lowest, highest)
	if !ok {
		return t.stats.host(tdx.STATUS_OPERAND_INVALID | tdx.OPERAND_RCX)
	}
	if !t.covered(gpa) {
		return t.stats.host(tdx.STATUS_EPT_WALK_FAILED | tdx.OPERAND_RCX)
	}
	g := t.lock(gpa)
	defer g.mu.Unlock()
	e, at := t.walk(gpa, level)
	if at != level {
		return t.stats.host(tdx.STATUS_EPT_WALK_FAILED | tdx.OPERAND_RCX)
	}
	next, status := do(t, gpa, at, e)
	if status != tdx.STATUS_SUCCESS {
		return t.stats.host(status | tdx.OPERAND_RCX)
	}
	t.store(gpa, at, next)
	return tdx.STATUS_SUCCESS
}

// SEPTAdd is TDH.MEM.SEPT.ADD: it makes a free entry of 2 MiB or 1 GiB a table of 512
// smaller ones.
func (t *TD) SEPTAdd(rcx uint64) uint64 {
	return t.host(rcx, tdx.LEVEL_2M, tdx.LEVEL_1G, func(t *TD, gpa x86.GPA, at Level, e entry) (entry, uint64) {
		if !e.free() {
			return 0, tdx.STATUS_EPT_ENTRY_STATE_INCORRECT
		}
		lower := t.beneath(gpa, at)
		for i := range lower {
			lower[i].Store(0) // what pages were before they were joined and removed
		}
		return table, tdx.STATUS_SUCCESS
	})
}

// SEPTRemove is TDH.MEM.SEPT.REMOVE: it removes a blocked table that maps nothing.
func (t *TD) SEPTRemove(rcx uint64) uint64 {
	return t.host(rcx, tdx.LEVEL_2M, tdx.LEVEL_1G, func(t *TD, gpa x86.GPA, at Level, e entry) (entry, uint64) {
		switch {
		case e&table == 0:
			return 0, tdx.STATUS_EPT_ENTRY_STATE_INCORRECT
		case e&blocked == 0:
			return 0, tdx.STATUS_GPA_RANGE_NOT_BLOCKED
		}
		lower := t.beneath(gpa, at)
		for i := range lower {
			if !entry(lower[i].Load()).free() {
				return 0, tdx.STATUS_EPT_PAGE_NOT_FREE
			}
		}
		return 0, tdx.STATUS_SUCCESS
	})
}

// PageAdd is TDH.MEM.PAGE.ADD, before the TD runs: a page of 4 KiB whose content is
// measured and which needs no accepting.
func (t *TD) PageAdd(rcx uint64) uint64 { return t.fill(rcx, tdx.LEVEL_4K, present) }

// PageAug is TDH.MEM.PAGE.AUG: the host adds a page of 4 KiB or 2 MiB, and L1 is to
// accept it.
func (t *TD) PageAug(rcx uint64) uint64 { return t.fill(rcx, tdx.LEVEL_2M, present|pending) }

func (t *TD) fill(rcx uint64, highest Level, with entry) uint64 {
	return t.host(rcx, tdx.LEVEL_4K, highest, func(_ *TD, _ x86.GPA, _ Level, e entry) (entry, uint64) {
		if !e.free() {
			return 0, tdx.STATUS_EPT_ENTRY_STATE_INCORRECT
		}
		return with, tdx.STATUS_SUCCESS
	})
}

// RangeBlock is TDH.MEM.RANGE.BLOCK: nobody in the TD uses the page, or the table, any
// more.
func (t *TD) RangeBlock(rcx uint64) uint64 {
	return t.host(rcx, tdx.LEVEL_4K, tdx.LEVEL_1G, func(_ *TD, _ x86.GPA, _ Level, e entry) (entry, uint64) {
		switch {
		case e.free():
			return 0, tdx.STATUS_EPT_ENTRY_STATE_INCORRECT
		case e&blocked != 0:
			return 0, tdx.STATUS_GPA_RANGE_ALREADY_BLOCKED
		}
		return e | blocked, tdx.STATUS_SUCCESS
	})
}

// RangeUnblock is TDH.MEM.RANGE.UNBLOCK: it undoes RangeBlock.
func (t *TD) RangeUnblock(rcx uint64) uint64 {
	return t.host(rcx, tdx.LEVEL_4K, tdx.LEVEL_1G, func(_ *TD, _ x86.GPA, _ Level, e entry) (entry, uint64) {
		if e.free() || e&blocked == 0 {
			return 0, tdx.STATUS_EPT_ENTRY_STATE_INCORRECT
		}
		return e &^ blocked, tdx.STATUS_SUCCESS
	})
}

// PageRemove is TDH.MEM.PAGE.REMOVE: the host takes a blocked page back; the L2 VMs lose
// it too.
func (t *TD) PageRemove(rcx uint64) uint64 {
	return t.host(rcx, tdx.LEVEL_4K, tdx.LEVEL_1G, func(_ *TD, _ x86.GPA, _ Level, e entry) (entry, uint64) {
		switch {
		case e&present == 0:
			return 0, tdx.STATUS_EPT_ENTRY_STATE_INCORRECT
		case e&blocked == 0:
			return 0, tdx.STATUS_GPA_RANGE_NOT_BLOCKED
		}
		return 0, tdx.STATUS_SUCCESS
	})
}

// PageDemote is TDH.MEM.PAGE.DEMOTE: it splits a blocked page of 2 MiB or 1 GiB into 512
// that say the same and are not blocked.
func (t *TD) PageDemote(rcx uint64) uint64 {
	return t.host(rcx, tdx.LEVEL_2M, tdx.LEVEL_1G, func(t *TD, gpa x86.GPA, at Level, e entry) (entry, uint64) {
		switch {
		case e&present == 0:
			return 0, tdx.STATUS_EPT_ENTRY_STATE_INCORRECT
		case e&blocked == 0:
			return 0, tdx.STATUS_GPA_RANGE_NOT_BLOCKED
		}
		lower := t.beneath(gpa, at)
		for i := range lower {
			lower[i].Store(uint32(e &^ blocked))
		}
		return table, tdx.STATUS_SUCCESS
	})
}

// PagePromote is TDH.MEM.PAGE.PROMOTE: it joins 512 pages that say the same, under a
// blocked table, into one of 2 MiB or 1 GiB.
func (t *TD) PagePromote(rcx uint64) uint64 {
	return t.host(rcx, tdx.LEVEL_2M, tdx.LEVEL_1G, func(t *TD, gpa x86.GPA, at Level, e entry) (entry, uint64) {
		switch {
		case e&table == 0:
			return 0, tdx.STATUS_EPT_ENTRY_STATE_INCORRECT
		case e&blocked == 0:
			return 0, tdx.STATUS_GPA_RANGE_NOT_BLOCKED
		}
		lower := t.beneath(gpa, at)
		first := entry(lower[0].Load())
		if len(lower) != 512 || !first.accessible() && !first.acceptable() {
			return 0, tdx.STATUS_EPT_INVALID_PROMOTE
		}
		for i := range lower {
			if entry(lower[i].Load()) != first {
				return 0, tdx.STATUS_EPT_INVALID_PROMOTE
			}
		}
		return first, tdx.STATUS_SUCCESS
	})
}
