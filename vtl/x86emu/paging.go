package x86emu

// paging describes a format of paging structures (Intel SDM vol. 3 §4.1.1).
type paging struct {
	levels int
	size   int    // bytes of an entry
	index  int    // bits of index, but for the top of PAE
	root   uint64 // bits of CR3 that hold an address
	pae    bool   // the top entries are PDPTEs without permissions
	long   bool
}

var (
	paging32 = paging{levels: 2, size: 4, index: 10, root: 0xFFFFF000}
	pagingPA = paging{levels: 3, size: 8, index: 9, root: 0xFFFFFFE0, pae: true}
	paging4  = paging{levels: 4, size: 8, index: 9, root: 1<<52 - 1<<12, long: true}
	paging5  = paging{levels: 5, size: 8, index: 9, root: 1<<52 - 1<<12, long: true}
)

// paging returns the format in use.
func (s *State) paging() *paging {
	switch {
	case s.EFER&eferLMA != 0 && s.CR4&cr4LA57 != 0:
		return &paging5
	case s.EFER&eferLMA != 0:
		return &paging4
	case s.CR4&cr4PAE != 0:
		return &pagingPA
	}
	return &paging32
}

// shift is the number of address bits below a level's index.
func (p *paging) shift(level int) int { return 12 + (level-1)*p.index }

// leaf tells whether an entry maps a page.
func (p *paging) leaf(s *State, entry uint64, level int) bool {
	switch {
	case level == 1:
		return true
	case entry&entryLarge == 0, level > 3, level == 3 && !p.long:
		return false
	}
	return p.size == 8 || s.CR4&cr4PSE != 0
}

// reserved returns the bits that must be zero in a present entry (SDM vol. 3
// tables 4-4 to 4-20).
func (p *paging) reserved(s *State, level int, leaf bool) uint64 {
	if p.size == 4 {
		if level == 2 && leaf { // bits 39:32 of the address are in 20:13
			return uint64(1<<22-1<<13) &^ (s.physicalMask() >> 32 << 13 & (1<<21 - 1<<13))
		}
		return 0
	}
	r := entryAddress &^ s.physicalMask()
	if !p.long {
		r |= 1<<63 - 1<<52
	}
	if s.EFER&eferNXE == 0 {
		r |= entryNX
	}
	switch {
	case p.pae && level == 3:
		r |= entryNX | 1<<9 - 1<<5 | 3<<1
	case level > 3:
		r |= entryLarge
	case leaf && level > 1:
		r |= 1<<p.shift(level) - 1<<13
	}
	return r
}

// target returns the address that an entry holds: of the next table, or of a
// page of the level.
func (p *paging) target(entry uint64, level int, leaf bool) uint64 {
	if !leaf || level == 1 {
		if p.size == 4 {
			return entry & 0xFFFFF000
		}
		return entry & (entryAddress &^ (1<<12 - 1))
	}
	if p.size == 4 {
		return entry&0xFFC00000 | entry>>13&0xFF<<32
	}
	return entry & entryAddress &^ (1<<p.shift(level) - 1)
}
