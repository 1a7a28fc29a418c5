package x86emu

import "keel/hcl/abi/x86"

// access is the way in which a linear address is used.
type access struct {
	write, fetch bool
	system       bool // an access of the processor to its own structures
}

// mark is a paging-structure entry whose accessed or dirty bit is to be set.
type mark struct {
	gpa        x86.GPA
	entry, set uint64
	size       int
}

// walk translates a linear address and checks it (Intel SDM vol. 3 §4.6). It
// writes nothing: accessed and dirty bits wait in marks.
func (e *Emulator) walk(linear uint64, a access) (x86.GPA, bool) {
	s := e.s
	if s.CR0&cr0PG == 0 {
		return x86.GPA(truncate(linear, 4)), true
	}
	p := s.paging()
	table := s.CR3 & p.root & s.physicalMask()
	rights := uint64(entryWrite | entryUser)
	var nx uint64
	for level := p.levels; ; level-- {
		i := linear >> p.shift(level) & (1<<p.index - 1)
		if p.pae && level == 3 {
			i &= 3
		}
		at := x86.GPA(table + i*uint64(p.size))
		entry, ok := e.readEntry(at, p.size)
		if !ok {
			return 0, e.refuse(ReasonMemory)
		}
		if entry&entryPresent == 0 {
			return 0, e.pageFault(linear, a, 0)
		}
		leaf := p.leaf(s, entry, level)
		if entry&p.reserved(s, level, leaf) != 0 {
			return 0, e.pageFault(linear, a, pfPresent|pfReserved)
		}
		if !p.pae || level < 3 {
			rights &= entry
			nx |= entry & entryNX
			if !a.fetch && !e.mark(at, entry, p.size, leaf && a.write) {
				return 0, false
			}
		}
		table = p.target(entry, level, leaf)
		if !leaf {
			continue
		}
		if code := e.forbidden(rights, nx, entry, a); code != 0 {
			return 0, e.pageFault(linear, a, code)
		}
		return x86.GPA(table + linear&(1<<p.shift(level)-1)), true
	}
}

// forbidden returns the error code bits of an access that the rights of a
// mapping do not allow, or zero (Intel SDM vol. 3 §4.6.1 and §4.6.2).
func (e *Emulator) forbidden(rights, nx, leaf uint64, a access) uint32 {
	s := e.s
	user := !a.system && s.cpl() == 3
	userPage := rights&entryUser != 0
	switch {
	case user && !userPage,
		a.write && rights&entryWrite == 0 && (user || s.CR0&cr0WP != 0),
		a.fetch && nx != 0,
		a.fetch && !user && userPage && s.CR4&cr4SMEP != 0,
		!a.fetch && !user && userPage && s.CR4&cr4SMAP != 0 && (a.system || s.RFLAGS&flagAC == 0):
		return pfPresent
	case a.fetch || !userPage || s.CR4&cr4PKE == 0 || s.EFER&eferLMA == 0:
		return 0
	}
	key := s.PKRU >> (leaf >> entryKey & 0xF * 2)
	if key&1 != 0 || key&2 != 0 && a.write && (user || s.CR0&cr0WP != 0) {
		return pfPresent | pfKey
	}
	return 0
}

// pageFault ends the step with #PF.
func (e *Emulator) pageFault(linear uint64, a access, code uint32) bool {
	s := e.s
	if a.write {
		code |= pfWrite
	}
	if !a.system && s.cpl() == 3 {
		code |= pfUser
	}
	if a.fetch && (s.CR4&cr4SMEP != 0 || s.CR4&cr4PAE != 0 && s.EFER&eferNXE != 0) {
		code |= pfFetch
	}
	e.res.Outcome = Faulted
	e.res.Fault = Fault{Vector: vectorPF, HasCode: true, Code: code, Address: linear}
	return false
}

// readEntry reads a paging-structure entry.
func (e *Emulator) readEntry(at x86.GPA, size int) (uint64, bool) {
	if e.mem.Kind(at, size, false) != KindRAM || !e.mem.ReadRAM(at, e.word[:size]) {
		return 0, false
	}
	return getInt(e.word[:size]), true
}

// mark remembers to set the accessed bit, and the dirty bit if the access
// dirties the page.
func (e *Emulator) mark(at x86.GPA, entry uint64, size int, dirty bool) bool {
	set := uint64(entryAccessed)
	if dirty {
		set |= entryDirty
	}
	if entry&set == set {
		return true
	}
	if e.nmark == len(e.marks) || e.mem.Kind(at&^7, 8, true) != KindRAM {
		return e.refuse(ReasonMemory)
	}
	e.marks[e.nmark] = mark{at, entry, set, size}
	e.nmark++
	return true
}

// commit sets the accessed and dirty bits of all translations. If an entry no
// longer says what the translation used, the step starts over.
func (e *Emulator) commit() bool {
	for i := range e.marks[:e.nmark] {
		if !e.setMark(&e.marks[i]) {
			return false
		}
	}
	e.nmark = 0
	return true
}

// setMark sets the bits of one mark by compare-and-swap.
func (e *Emulator) setMark(m *mark) bool {
	word := m.gpa &^ 7
	shift := uint(m.gpa&7) * 8
	for range lockTries {
		if !e.mem.ReadRAM(word, e.word[:8]) {
			return e.refuse(ReasonMemory)
		}
		now := getInt(e.word[:8])
		if (truncate(now>>shift, m.size)^m.entry)&^(entryAccessed|entryDirty) != 0 {
			return e.again()
		}
		after := now | m.set<<shift
		if now == after {
			return true
		}
		swapped, ok := e.mem.CompareAndSwap(word, now, after)
		if !ok {
			return e.refuse(ReasonMemory)
		}
		if swapped {
			return true
		}
	}
	return e.again()
}
