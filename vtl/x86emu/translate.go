package x86emu

import "keel/hcl/abi/x86"

// Who looks at a guest from outside translates addresses without rights, and without a
// trace in the accessed bits.

// Mapping is a run of linear addresses and what they are mapped to, in bytes.
type Mapping struct {
	Linear uint64
	GPA    x86.GPA
	Size   uint64
}

// Reader copies guest RAM from gpa on into p, and returns false where there is none.
type Reader func(gpa x86.GPA, p []byte) bool

// Translate returns the page of a VP in which a linear address lies, and ok false where no
// memory is mapped. user is set where code of privilege level 3 may use it. Without paging
// it is a page of the address itself.
func Translate(s *State, read Reader, linear uint64) (m Mapping, user, ok bool) {
	const page = x86.PageSize
	if s.CR0&cr0PG == 0 {
		linear = truncate(linear, 4) &^ (page - 1)
		return Mapping{linear, x86.GPA(linear), page}, false, true
	}
	p := s.paging()
	if p.long && !s.canonical(linear) {
		return Mapping{}, false, false
	}
	user = true
	table := s.CR3 & p.root & s.physicalMask()
	for level := p.levels; ; level-- {
		i := linear >> p.shift(level) & (p.entries(level) - 1)
		var word [8]byte
		if !read(x86.GPA(table+i*uint64(p.size)), word[:p.size]) {
			return Mapping{}, false, false
		}
		entry := getInt(word[:p.size])
		leaf := p.leaf(s, entry, level)
		if entry&entryPresent == 0 || entry&p.reserved(s, level, leaf) != 0 {
			return Mapping{}, false, false
		}
		if !p.pae || level < 3 {
			user = user && entry&entryUser != 0
		}
		table = p.target(entry, level, leaf)
		if leaf {
			size := uint64(1) << p.shift(level)
			return Mapping{linear &^ (size - 1), x86.GPA(table), size}, user, true
		}
	}
}

// entries is how many entries a table of a level has.
func (p *paging) entries(level int) uint64 {
	if p.pae && level == 3 {
		return 4
	}
	return 1 << p.index
}

// maxTables bounds how many tables Mappings looks at: a guest may have as many as it
// likes.
const maxTables = 1 << 14

// Mappings calls yield with all that is mapped of a VP's linear addresses from first to
// last, in ascending order, neighbours taken together, until yield returns false. A table
// that is used in several places is looked at in the first one only: guests map some
// pages thousands of times. Without paging there are none.
func Mappings(s *State, read Reader, first, last uint64, yield func(Mapping) bool) {
	if s.CR0&cr0PG == 0 {
		return
	}
	p := s.paging()
	w := &walker{s: s, p: p, read: read, first: first, last: last, yield: yield, seen: map[uint64]bool{}}
	if w.table(s.CR3&p.root&s.physicalMask(), p.levels, 0) && w.run.Size > 0 {
		yield(w.run)
	}
}

// walker goes through all tables of a VP.
type walker struct {
	s           *State
	p           *paging
	read        Reader
	first, last uint64
	yield       func(Mapping) bool
	seen        map[uint64]bool       // tables
	run         Mapping               // that may go on
	buffers     [5][x86.PageSize]byte // of the tables on the way
}

// table goes through a table whose first entry is for a linear address. It returns false
// when enough was seen.
func (w *walker) table(at uint64, level int, linear uint64) bool {
	if w.seen[at] {
		return true
	}
	if len(w.seen) >= maxTables {
		return w.end()
	}
	w.seen[at] = true
	entries := w.buffers[level-1][:w.p.entries(level)*uint64(w.p.size)]
	if !w.read(x86.GPA(at), entries) {
		return true
	}
	for i := range w.p.entries(level) {
		from := w.address(linear | i<<w.p.shift(level))
		if to := from + (1<<w.p.shift(level) - 1); to < w.first || from > w.last {
			continue
		}
		entry := getInt(entries[i*uint64(w.p.size):][:w.p.size])
		leaf := w.p.leaf(w.s, entry, level)
		if entry&entryPresent == 0 || entry&w.p.reserved(w.s, level, leaf) != 0 {
			continue
		}
		target := w.p.target(entry, level, leaf)
		if leaf && !w.add(Mapping{from, x86.GPA(target), 1 << w.p.shift(level)}) {
			return false
		}
		if !leaf && !w.table(target, level-1, from) {
			return false
		}
	}
	return true
}

// address extends the sign of a linear address in the long formats.
func (w *walker) address(linear uint64) uint64 {
	if !w.p.long {
		return linear
	}
	unused := 64 - w.p.shift(w.p.levels) - w.p.index
	return uint64(int64(linear<<unused) >> unused)
}

// add takes a page to the run, or begins another one.
func (w *walker) add(m Mapping) bool {
	r := &w.run
	if r.Size > 0 && r.Linear+r.Size == m.Linear && r.GPA+x86.GPA(r.Size) == m.GPA {
		r.Size += m.Size
		return true
	}
	done := *r
	*r = m
	return done.Size == 0 || w.yield(done)
}

// end hands out the last run of a walk that stops early.
func (w *walker) end() bool {
	if w.run.Size > 0 {
		w.yield(w.run)
	}
	return false
}
