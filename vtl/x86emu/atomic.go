package x86emu

import "keel/hcl/abi/x86"

// lockTries bounds the attempts of one step against VPs that change the same
// memory all the time.
const lockTries = 64

// exchange replaces a value that was read. With lock set, RAM changes only if it
// still holds before: done tells. A device has no such operation: it sees the
// write, as on a bus without lock signal.
func (e *Emulator) exchange(sp *span, before, after uint64, lock bool) (done, ok bool) {
	if !lock || sp.device() {
		return true, e.storeInt(sp, after)
	}
	p := &sp.parts[0]
	if sp.used > 1 {
		return false, e.refuse(ReasonSplitLock)
	}
	for _, width := range [2]int{8, 16} {
		base := p.gpa &^ x86.GPA(width-1)
		if at := int(p.gpa - base); at+p.n <= width {
			return e.exchangeWithin(base, width, at, p.n, before, after)
		}
	}
	return false, e.refuse(ReasonSplitLock)
}

// exchangeWithin swaps n bytes at offset at of an aligned block of RAM.
func (e *Emulator) exchangeWithin(base x86.GPA, width, at, n int, before, after uint64) (done, ok bool) {
	if e.mem.Kind(base, width, true) != KindRAM || !e.mem.ReadRAM(base, e.word[:width]) {
		return false, e.refuse(ReasonMemory)
	}
	if getInt(e.word[at:at+n]) != before {
		return false, true
	}
	was := [2]uint64{getInt(e.word[:8]), getInt(e.word[8:16])}
	putInt(e.word[at:at+n], after)
	is := [2]uint64{getInt(e.word[:8]), getInt(e.word[8:16])}
	if width == 8 {
		done, ok = e.mem.CompareAndSwap(base, was[0], is[0])
	} else {
		done, ok = e.mem.CompareAndSwap16(base, was, is)
	}
	if !ok {
		return false, e.refuse(ReasonMemory)
	}
	return done, true
}
