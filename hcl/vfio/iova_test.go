package vfio

import (
	"math/rand/v2"
	"slices"
	"testing"
)

const guarded = 2 * pageSize // of a buffer of one page

func TestSpace(t *testing.T) {
	s := newSpace(span{0x10000, 0x18000}, nil)
	take := func(size, want uint64, ok bool) {
		t.Helper()
		if at, got := s.take(size); got != ok || ok && at != want {
			t.Errorf("took %#x at %#x, %v; want %#x, %v", size, at, got, want, ok)
		}
	}
	take(pageSize, 0x10000, true)
	take(pageSize, 0x12000, true) // a guard page between them
	take(3*pageSize, 0x14000, true)
	take(pageSize, 0, false)
	s.give(0x12000)
	take(2*pageSize, 0, false) // no room for its guard page
	take(pageSize, 0x12000, true)
	s.give(0x10000)
	s.give(0x12000)
	s.give(0x12000) // nothing is there any more
	take(3*pageSize, 0x10000, true)
	take(1<<62, 0, false)
	take(1<<63, 0, false)
}

func TestSpaceAllows(t *testing.T) {
	for _, c := range []struct {
		name   string
		ranges []span
		want   []span
	}{
		{"unknown", nil, []span{{0x10000, 0x20000}}},
		{"none", []span{}, nil},
		{"everything", []span{{0, 0}}, []span{{0x10000, 0x20000}}},
		{"elsewhere", []span{{0, 0x10000}, {0x20000, 0}}, nil},
		{"parts of pages", []span{{0x10001, 0x11fff}, {0x12001, 0x14001}}, []span{{0x13000, 0x14000}}},
		{"unordered", []span{{0x18000, 0x19000}, {0, 0x11000}}, []span{{0x10000, 0x11000}, {0x18000, 0x19000}}},
	} {
		if s := newSpace(span{0x10000, 0x20000}, c.ranges); !slices.Equal(s.allowed, c.want) {
			t.Errorf("%s: %#x, want %#x", c.name, s.allowed, c.want)
		}
	}
}

// TestSpaceShrinks takes addresses away that are in use: they stay so, others are
// not handed out.
func TestSpaceShrinks(t *testing.T) {
	s := newSpace(span{0x10000, 0x20000}, nil)
	first, _ := s.take(pageSize)
	s.allow([]span{{0x11000, 0x14000}})
	if at, ok := s.take(pageSize); !ok || at < first+guarded || at+guarded > 0x14000 {
		t.Errorf("took %#x, %v", at, ok)
	}
	if at, ok := s.take(pageSize); ok {
		t.Errorf("took %#x where there is no room", at)
	}
}

// TestSpaceAtRandom compares with a page at a time.
func TestSpaceAtRandom(t *testing.T) {
	const total = 256
	r := rand.New(rand.NewPCG(1, 2))
	allowed := []span{{0, 100 * pageSize}, {120 * pageSize, total * pageSize}}
	s := newSpace(span{0, total * pageSize}, allowed)
	var owner [total]bool
	held := map[uint64]uint64{} // pages by address, with the guard
	mark := func(at, n uint64, to bool) {
		for p := at / pageSize; p < at/pageSize+n; p++ {
			if owner[p] == to || p >= 100 && p < 120 {
				t.Fatalf("page %d is handed out wrongly", p)
			}
			owner[p] = to
		}
	}
	longest := func() (n uint64) {
		run := uint64(0)
		for p, taken := range owner {
			if run++; taken || p >= 100 && p < 120 {
				run = 0
			}
			n = max(n, run)
		}
		return n
	}
	for range 5000 {
		if n := uint64(1 + r.IntN(20)); r.IntN(2) == 0 {
			room := longest()
			at, ok := s.take(n * pageSize)
			if ok != (n+1 <= room) {
				t.Fatalf("%d pages with %d free: %v", n, room, ok)
			}
			if ok {
				mark(at, n+1, true)
				held[at] = n + 1
			}
			continue
		}
		for at, n := range held {
			s.give(at)
			mark(at, n, false)
			delete(held, at)
			break
		}
	}
}
