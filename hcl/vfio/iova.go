package vfio

import (
	"cmp"
	"slices"
)

// space hands out DMA addresses from a window. It is not safe for concurrent use.
type space struct {
	window  span
	allowed []span // of the window, ascending, apart
	used    []span // ascending, apart; each with the guard page behind it
}

// newSpace makes a space of the parts of a window that lie in the ranges.
// Preconditions: the window is not empty and its end not 0.
func newSpace(window span, ranges []span) *space {
	s := &space{window: window}
	s.allow(ranges)
	return s
}

// allow sets anew which addresses may be handed out. nil allows the whole window.
func (s *space) allow(ranges []span) {
	s.allowed = s.allowed[:0]
	if ranges == nil {
		ranges = []span{s.window}
	}
	for _, r := range ranges {
		if !r.overlaps(s.window) {
			continue
		}
		// Whole pages: a part of one cannot be mapped.
		start := pages(max(r.start, s.window.start))
		end := min(r.last(), s.window.last()) + 1
		if end &^= pageSize - 1; start < end {
			s.allowed = append(s.allowed, span{start, end})
		}
	}
	slices.SortFunc(s.allowed, func(a, b span) int { return cmp.Compare(a.start, b.start) })
}

// take hands out size bytes, and reports false when there is no room. A page that
// nothing is mapped to follows them: a function that runs over the end of a buffer
// faults.
// Preconditions: size is not zero, and a multiple of the page size.
func (s *space) take(size uint64) (uint64, bool) {
	if size > s.window.end-s.window.start {
		return 0, false
	}
	need := size + pageSize
	for _, a := range s.allowed {
		at := a.start
		i, _ := slices.BinarySearchFunc(s.used, at, func(u span, at uint64) int {
			if u.end <= at {
				return -1
			}
			return 1
		})
		for ; at+need <= a.end; i++ {
			if i == len(s.used) || s.used[i].start >= at+need {
				s.used = slices.Insert(s.used, i, span{at, at + need})
				return at, true
			}
			at = max(at, s.used[i].end)
		}
	}
	return 0, false
}

// give takes addresses back that take handed out.
func (s *space) give(at uint64) {
	i, found := slices.BinarySearchFunc(s.used, at, func(u span, at uint64) int { return cmp.Compare(u.start, at) })
	if found {
		s.used = slices.Delete(s.used, i, i+1)
	}
}
