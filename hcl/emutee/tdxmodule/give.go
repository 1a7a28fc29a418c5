package tdxmodule

import (
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// Give is what an honest host does when a TD asks for private memory: it adds what is
// missing of a range, in pages of 2 MiB where they fit and nothing smaller stands in the
// way. Pages that the TD has already stay as they are. It returns the first status that
// is not success.
func (t *TD) Give(gpa x86.GPA, length uint64) uint64 {
	return t.each(gpa, length, func(gpa x86.GPA, left uint64) (x86.GPA, uint64) {
		e, at := t.walk(gpa, tdx.LEVEL_4K)
		start := gpa &^ (1<<shiftOf(at) - 1)
		switch {
		case e&present != 0:
			return start + 1<<shiftOf(at), tdx.STATUS_SUCCESS
		case at == tdx.LEVEL_2M && start == gpa && left >= x86.LargePageSize:
			return gpa + x86.LargePageSize, t.PageAug(operand(gpa, at))
		case at != tdx.LEVEL_4K:
			return gpa, t.SEPTAdd(operand(start, at))
		}
		return gpa + x86.PageSize, t.PageAug(operand(gpa, at))
	})
}

// Take is what an honest host does when a TD gives memory back: it blocks and removes
// all pages of a range, and splits those that only partly lie in it.
func (t *TD) Take(gpa x86.GPA, length uint64) uint64 {
	return t.each(gpa, length, func(gpa x86.GPA, left uint64) (x86.GPA, uint64) {
		e, at := t.walk(gpa, tdx.LEVEL_4K)
		start := gpa &^ (1<<shiftOf(at) - 1)
		switch {
		case e&present == 0:
			return start + 1<<shiftOf(at), tdx.STATUS_SUCCESS
		case e&blocked == 0:
			return gpa, t.RangeBlock(operand(start, at))
		case start != gpa || left < 1<<shiftOf(at):
			return gpa, t.PageDemote(operand(start, at))
		}
		return start + 1<<shiftOf(at), t.PageRemove(operand(start, at))
	})
}

// each walks through a range. A step returns where to go on, which may be where it was:
// then it has changed the entry, and another host may have changed it again, so the
// number of such steps is bounded.
func (t *TD) each(gpa x86.GPA, length uint64, do func(gpa x86.GPA, left uint64) (x86.GPA, uint64)) uint64 {
	end := gpa + x86.GPA(length)
	if gpa%x86.PageSize != 0 || length%x86.PageSize != 0 || end < gpa || !t.private(end-1) && length != 0 {
		return tdx.STATUS_OPERAND_INVALID | tdx.OPERAND_RCX
	}
	if uint64(end) > t.config.Memory {
		return tdx.STATUS_EPT_WALK_FAILED | tdx.OPERAND_RCX
	}
	for stays := 0; gpa < end; {
		next, status := do(gpa, uint64(end-gpa))
		if status != tdx.STATUS_SUCCESS {
			return status
		}
		stays++
		if next != gpa {
			stays = 0
		}
		if stays > maxStays {
			return tdx.STATUS_OPERAND_BUSY | tdx.OPERAND_SEPT_TREE
		}
		gpa = next
	}
	return tdx.STATUS_SUCCESS
}

// maxStays: without others, an address needs at most a block, a split of 1 GiB, a block
// and a split of 2 MiB, and a block.
const maxStays = 16

// operand packs a page and its level as RCX of the functions on memory has them.
func operand(gpa x86.GPA, level Level) uint64 { return uint64(gpa) | uint64(level) }
